"""Golden cases under another tile budget, asked of the full-precision parent.

A recipe may allow fewer tiles than the parent, so that a picture is cut otherwise and every stage gives other numbers.
The parent's own pipeline, whose agreement with torch was proven at export, then answers the same questions again.
"""

from dataclasses import replace

import numpy as np

from edge_runtime.bundle import GOLDEN, Bundle
from edge_runtime.golden import GoldenCase, Sampled, read_golden
from edge_runtime.golden_run import decoder_precision
from edge_runtime.manifest import ImageSpec
from edge_runtime.pipeline import Pipeline
from edge_runtime.preprocess import with_max_tiles
from edge_runtime.prompt import parts_of
from edge_runtime.records import F32, I32, DecoderSegment, EmbedSegment, Modality, ViewTiles
from quantize.calibration import tiles_of


def image_spec(parent: Bundle, max_tiles: int | None) -> ImageSpec:
    """The parent's way of cutting pictures under a tile budget; never more tiles than the parent takes.

    Raises:
        ConfigError: The budget leaves no grid to choose from.
    """
    spec = parent.manifest.image
    if max_tiles is None or spec.mode == "resize":
        return spec
    return with_max_tiles(spec, min(max_tiles, spec.max_tiles))


def golden_cases(parent: Bundle, spec: ImageSpec) -> tuple[GoldenCase, ...] | None:
    """The parent's golden cases, those that are cut otherwise under `spec` asked again; None if none is.

    Raises:
        InferenceError: A native library failed.
    """
    if spec == parent.manifest.image:
        return None
    cases = read_golden(parent.file(GOLDEN))
    changed = [case for case in cases if _cut_otherwise(parent, spec, case)]
    if not changed:
        return None
    kv_type, _ = decoder_precision(parent)
    under = Bundle(parent.path, replace(parent.manifest, image=spec))
    with Pipeline.of_bundle(under, kv_type=kv_type) as pipeline:
        again = {case.name: _asked_again(pipeline, case) for case in changed}
    return tuple(again.get(case.name, case) for case in cases)


def _cut_otherwise(parent: Bundle, spec: ImageSpec, case: GoldenCase) -> bool:
    tiles = tiles_of(case.view, "image", replace(parent.manifest, image=spec))
    return tiles is None or tiles.pixels.shape != case.pixels["image"].shape


def _asked_again(pipeline: Pipeline, case: GoldenCase) -> GoldenCase:
    parts = parts_of([case.view], case.instruction)
    images, depths = pipeline.tiles(parts)
    prompt = pipeline.prompt(parts, images, depths)
    views: dict[Modality, list[ViewTiles]] = {"image": images, "depth": depths}
    present: list[Modality] = [modality for modality in views if views[modality]]
    blocks: dict[Modality, list[F32]] = {"image": [], "depth": []}
    blocks |= {modality: pipeline.encoders.encode(modality, views[modality]) for modality in present}
    segments = pipeline.decoder_segments(prompt, blocks["image"], blocks["depth"])
    reply = pipeline.answer_parts(parts, grammar=False, max_tokens=len(case.greedy_ids))
    greedy = np.array(reply.generation.token_ids, np.int32)
    logits = pipeline.decoder.logits(segments, greedy.tolist())
    best = np.sort(logits, axis=-1)
    return replace(
        case,
        prompt_text=prompt.text,
        prompt_ids=_prompt_ids(segments, pipeline.bundle),
        pixels={m: Sampled.of(np.concatenate([v.pixels for v in views[m]])) for m in present},
        features={m: Sampled.of(pipeline.encoders.features(m, views[m])) for m in present},
        embeds={m: Sampled.of(np.concatenate(blocks[m])) for m in present},
        logits=Sampled.of(logits),
        greedy_ids=greedy,
        margins=(best[:, -1] - best[:, -2]).astype(np.float32),
    )


def _prompt_ids(segments: list[DecoderSegment], bundle: Bundle) -> I32:
    """Token ids with one placeholder per media block in place of the block and the newline that follows it."""
    tokens = bundle.manifest.tokens
    placeholder = np.array([tokens.special[tokens.image]], np.int32)
    runs: list[I32] = []
    after_block = False
    for segment in segments:
        if isinstance(segment, EmbedSegment):
            runs.append(placeholder)
        else:
            runs.append(segment.ids[1:] if after_block else segment.ids)
        after_block = isinstance(segment, EmbedSegment)
    return np.concatenate(runs)
