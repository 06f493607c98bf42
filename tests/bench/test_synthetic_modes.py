"""The image modes of the large models on tiny graphs: tiling and dynamic-S2, from skeleton to answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.latency import measure_latency
from bench.roofline import cost_of_bundle, question
from bench.scenarios import Workload
from bench.shapes import SHAPES, DecoderShape, ModelShape
from bench.synthetic import VOCABULARY, synthetic_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import ImageSpec, TileSpec
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import View
from export.skeleton import write_skeletons, write_vocabulary
from train.seeded import VARIANTS

# each graph is traced by torch, which takes its time on a busy machine
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# shape of the table -> seeded variant of the same recipe, and tokens a tile gives
SMALL = {"roborefer-2b": ("dynamic", 4), "roborefer-8b": ("dynamic_s2", 4)}


def small(name: str, skeletons: Path) -> ModelShape:
    """The shape of the table with everything but its recipe made small."""
    variant, tokens = SMALL[name]
    trained, large = VARIANTS[variant], SHAPES[name]
    parts = {f"rgb_{part}.onnx": skeletons / f"{part}.onnx.gz" for part in ("tower", "projector")}
    write_skeletons(replace(trained, depth="shared"), parts)  # a tower of depth's own would be traced for nothing
    write_vocabulary(skeletons / VOCABULARY)
    tile = TileSpec(trained.tile_px, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    scales = tuple(trained.tile_px * factor for factor in trained.s2_factors)
    decoder: DecoderShape = replace(
        large.decoder, layers=2, width=64, heads=4, kv_heads=2, mlp=160, vocab_size=2000, context_tokens=4096
    )
    dims = replace(
        large.dims, tower_width=trained.tower_width, patches_per_tile=trained.grid**2, tokens_per_tile=tokens,
        decoder_width=64, decoder_layers=2, vocab_size=2000, context_tokens=4096,
    )  # fmt: skip
    return replace(
        large,
        tower="tower",
        projector="projector",
        image=ImageSpec(large.image.mode, tile, tile, max_tiles=12, s2_scales=scales),
        dims=dims,
        decoder=decoder,
        decoder_type="q8_0",
    )


@pytest.fixture(scope="module", params=sorted(SMALL))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp(request.param)
    shape = small(request.param, root / "skeletons")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.synthetic._EXTERNAL_ABOVE_BYTES", 0)  # weights beside the graph, as at full size
        return synthetic_bundle(shape, out=root / "bundle", golden=True, skeletons=root / "skeletons")


def test_it_answers_on_many_tiles(made: Bundle) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    with Pipeline.of_bundle(made) as pipeline:
        answer = pipeline.refer([View(rgb)], "the red cup", grammar=False, max_tokens=14)
    assert answer.generated_tokens == 14
    assert "rgb_tower.onnx.data" in made.manifest.files


def test_the_roofline_counts_the_tiles_and_tokens_that_are_measured(made: Bundle) -> None:
    found = measure_latency(made, Workload("single", 1, 0, grammar=False, answer_tokens=14))
    counted = question(cost_of_bundle(made), width=640, height=480, answer_tokens=14)
    assert abs(found.answers[0].prompt_tokens - counted.prompt_tokens) < 8  # questions differ by a few words
