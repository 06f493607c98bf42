"""A golden case for a made-up bundle: what its own stages give on the machine that made it.

There is no torch model to ask, so it proves nothing about correctness. It lets `check` see on another machine that
the files arrived whole and compute the same, and lets `quantize` state how far a recipe moves each stage.
"""

from collections.abc import Mapping

import numpy as np

from bench.scenarios import Scene
from edge_runtime.golden import GoldenCase, Sampled
from edge_runtime.manifest import Tolerance
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import ask_for_points, parts_of
from edge_runtime.records import I32, DecoderSegment, EmbedSegment, Modality, View, ViewTiles

GREEDY_TOKENS = 8
_SIDE_PX = 61  # one tile, where tiling is dynamic

# As an export states them: encoders in single precision, decoder in half; the same code makes the same pixels.
_LIMITS = {"preprocess": 1e-5, "tower": 1e-3, "projector": 1e-3, "decoder_logits": 2e-2}


def golden_case(pipeline: Pipeline) -> GoldenCase:
    """Ask one RGB-D question and keep every stage's output."""
    manifest = pipeline.bundle.manifest
    depth = manifest.image.depth is not None
    seen = Scene(_SIDE_PX, _SIDE_PX, seed=1, depth=depth).view(0)
    view = View(seen.rgb, seen.depth)  # without intrinsics, as the archive keeps it
    instruction = ask_for_points("the free area beside the box", manifest.prompt)
    parts = parts_of([view], instruction)
    images, depths = pipeline.tiles(parts)
    views: dict[Modality, list[ViewTiles]] = {"image": images, "depth": depths} if depth else {"image": images}
    prompt = pipeline.prompt(parts, images, depths)
    blocks = {modality: pipeline.encoders.encode(modality, tiles) for modality, tiles in views.items()}
    segments = pipeline.decoder_segments(prompt, blocks["image"], blocks.get("depth", []))
    greedy = pipeline.decoder.generate(segments, max_tokens=GREEDY_TOKENS).token_ids
    logits = pipeline.decoder.logits(segments, greedy)
    second, best = np.partition(logits, -2, axis=-1)[:, -2:].T
    return GoldenCase(
        name="made-up",
        instruction=instruction,
        view=view,
        prompt_text=prompt.text,
        prompt_ids=_with_placeholders(segments, manifest.tokens.special[manifest.tokens.image]),
        pixels={m: Sampled.of(np.concatenate([v.pixels for v in tiles])) for m, tiles in views.items()},
        features={m: Sampled.of(pipeline.encoders.features(m, tiles)) for m, tiles in views.items()},
        embeds={m: Sampled.of(np.concatenate(found)) for m, found in blocks.items()},
        logits=Sampled.of(logits),
        greedy_ids=np.array(greedy, np.int32),
        margins=(best - second).astype(np.float32),
    )


def golden_tolerances(depth: bool) -> Mapping[str, Tolerance]:
    """What a manifest states about them: the golden values are the bundle's own, so nothing was measured."""
    modalities = ("rgb", "depth") if depth else ("rgb",)
    stages = {f"{m}_{part}": _LIMITS[part] for m in modalities for part in ("tower", "projector")}
    stages |= {"preprocess": _LIMITS["preprocess"], "decoder_logits": _LIMITS["decoder_logits"]}
    return {stage: Tolerance(limit=limit, measured=0.0) for stage, limit in sorted(stages.items())}


def _with_placeholders(segments: list[DecoderSegment], media_id: int) -> I32:
    """Token ids with one placeholder for each media block and the newline behind it."""
    ids: list[I32] = []
    after_block = False
    for segment in segments:
        if isinstance(segment, EmbedSegment):
            ids.append(np.array([media_id], np.int32))
            after_block = True
            continue
        ids.append(segment.ids[1:] if after_block else segment.ids)
        after_block = False
    return np.concatenate(ids)
