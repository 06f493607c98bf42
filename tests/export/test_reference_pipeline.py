"""Every recorded case through an exported bundle and the robot's Pipeline, stage by stage, to the text."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.decoder import Decoder
from edge_runtime.golden_run import MARGIN_F16
from edge_runtime.image_files import read_image
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import (
    F32,
    DecoderSegment,
    DepthPart,
    EmbedSegment,
    ImagePart,
    MediaBlock,
    Modality,
    Part,
    RelativeDepth,
    TextPart,
    ViewTiles,
)
from export.gguf_decoder import write_gguf
from tests.recordings import GOLDEN, all_cases, arrays, record

pytestmark = pytest.mark.reference


# Promised is 1e-3 of scale for a graph; the slips that the golden README names show at 4e-5 and more.
ENCODER_TOLERANCE = 2e-5
F32_TOLERANCE, F16_TOLERANCE = 5e-4, 2e-2


@dataclass(frozen=True)
class Case:
    """One recorded question, and a pipeline to ask."""

    variant: str
    name: str
    pipeline: Pipeline

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = record(self.variant)["cases"][self.name]
        return found

    def array(self, field: str) -> Any:
        return arrays(self.variant).get(f"{self.name}/{field}")

    def parts(self) -> list[Part]:
        return [_part(kind, value) for kind, value in self.record["parts"]]

    def views(self) -> dict[Modality, list[ViewTiles]]:
        images, depths = self.pipeline.tiles(self.parts())
        return {"image": images, "depth": depths}

    def segments(self) -> list[DecoderSegment]:
        views = self.views()
        prompt = self.pipeline.prompt(self.parts(), views["image"], views["depth"])
        blocks = [self.pipeline.encoders.encode(m, v) for m, v in views.items()]
        return self.pipeline.decoder_segments(prompt, *blocks)

    def recorded_logits(self) -> F32:
        """Of every step where they were kept, else of the first."""
        steps = self.array("logits_steps")
        return steps if steps is not None else self.array("logits_first")[None]


def _part(kind: str, value: str) -> Part:
    if kind == "text":
        return TextPart(value)
    if kind == "image":
        return ImagePart(read_image(GOLDEN / "images" / value))
    with Image.open(GOLDEN / "images" / value) as picture:
        return DepthPart(RelativeDepth(np.asarray(picture)))


@pytest.fixture(scope="module")
def pipelines(exported: Callable[[str], Any]) -> Iterator[Callable[[str], Pipeline]]:
    """Pipelines with F32 decoders and exact caches."""
    opened: dict[str, Pipeline] = {}
    with ExitStack() as stack:

        def pipeline(variant: str) -> Pipeline:
            if variant not in opened:
                path = exported(variant).path
                opened[variant] = stack.enter_context(Pipeline.open(path, n_threads=2, kv_type="f32"))
            return opened[variant]

        yield pipeline


@pytest.fixture(params=all_cases())
def case(request: pytest.FixtureRequest, pipelines: Callable[[str], Pipeline]) -> Case:
    variant, name = request.param
    return Case(variant, name, pipelines(variant))


def worst(ours: F32, theirs: F32) -> float:
    """Largest error relative to the largest expected value."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_prompt_and_token_ids_are_exact(case: Case) -> None:
    views = case.views()
    pipeline, tokens = case.pipeline, case.pipeline.bundle.manifest.tokens
    prompt = pipeline.prompt(case.parts(), views["image"], views["depth"])
    assert prompt.text == case.record["prompt_text"]
    media = {"image": tokens.special[tokens.image], "depth": tokens.special[tokens.depth or ""]}
    expected = [segment.modality for segment in prompt.segments if isinstance(segment, MediaBlock)]
    ids: list[int] = []
    after_block = False
    for segment in case.segments():
        if isinstance(segment, EmbedSegment):
            ids.append(media[expected.pop(0)])
        else:
            assert not after_block or segment.ids[0] == tokens.newline
            ids += segment.ids[1 if after_block else 0 :].tolist()
        after_block = isinstance(segment, EmbedSegment)
    assert ids == case.record["input_ids"]


def test_pixels_features_and_embeddings(case: Case) -> None:
    for modality, views in case.views().items():
        if not views:
            continue
        pixels = np.concatenate([view.pixels for view in views])
        assert len(pixels) == case.record["n_tiles"][modality]
        kept = pixels[case.record["pixel_index"][modality]]
        assert np.abs(kept - case.array(f"pixel_values_{modality}")).max() <= 1e-5
        features = case.pipeline.encoders.features(modality, views)
        recorded = case.array(f"tower_features_{modality}")
        assert worst(features[case.record["tile_index"][modality]], recorded) <= ENCODER_TOLERANCE
        if case.pipeline.bundle.manifest.image.mode != "dynamic_s2":
            blocks = np.stack(case.pipeline.encoders.encode(modality, views))
            projected = case.array(f"projector_out_{modality}")
            assert worst(blocks[: len(projected)], projected) <= ENCODER_TOLERANCE


def test_what_enters_the_decoder(case: Case, exported: Callable[[str], Any]) -> None:
    """All blocks at their places, S2 ones re-assembled, and the newline after each."""
    table = exported(case.variant).checkpoint.model.llm.get_input_embeddings().weight.detach().numpy()
    rows = [s.embeds if isinstance(s, EmbedSegment) else table[s.ids] for s in case.segments()]
    assert sum(len(r) for r in rows) == case.record["seq_len"]
    assert worst(np.concatenate(rows), case.array("inputs_embeds")) <= ENCODER_TOLERANCE


def test_f32_logits_and_greedy_text(case: Case) -> None:
    reply = case.pipeline.answer_parts(case.parts(), grammar=False, max_tokens=32)
    assert list(reply.generation.token_ids) == case.record["output_ids"]
    assert reply.generation.text.strip() == case.record["text"]
    assert reply.generation.stopped == case.record["stopped_on_eos"]
    recorded = case.recorded_logits()
    logits = case.pipeline.decoder.logits(case.segments(), case.record["output_ids"])
    assert worst(logits[: len(recorded)], recorded) <= F32_TOLERANCE


@pytest.fixture(scope="module")
def f16_decoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Decoder]]:
    """Half-precision decoders with half-precision caches, as robots run them."""
    folder = tmp_path_factory.mktemp("f16")
    opened: dict[str, Decoder] = {}
    with ExitStack() as stack:

        def decoder(variant: str) -> Decoder:
            if variant not in opened:
                path = write_gguf(GOLDEN / variant / "checkpoint" / "llm", folder / f"{variant}.gguf", "f16").path
                stops = tuple(record(variant)["generation"]["stop_token_ids"])
                opened[variant] = stack.enter_context(
                    Decoder.open(path, stop_ids=stops, use_extra_bufts=True, kv_type="f16", n_threads=2)
                )
            return opened[variant]

        yield decoder


def test_f16_logits_and_choices(case: Case, f16_decoders: Callable[[str], Decoder]) -> None:
    output_ids, margins = case.record["output_ids"], np.array(case.record["margins_top1_top2"])
    logits = f16_decoders(case.variant).logits(case.segments(), output_ids)
    recorded = case.recorded_logits()
    assert worst(logits[: len(recorded)], recorded) <= F16_TOLERANCE
    certain = margins > MARGIN_F16
    assert certain.any()
    assert np.array_equal(logits.argmax(axis=-1)[certain], np.array(output_ids)[certain])
