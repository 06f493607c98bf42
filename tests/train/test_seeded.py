"""Seeded checkpoints: the same bytes every time, every layout they promise, and answers that are not a coin toss."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edge_runtime.errors import CheckpointError
from tests.train.questions import question
from train.checkpoint import Checkpoint, load_checkpoint
from train.inputs import answer
from train.seeded import VARIANTS, main, seeded_checkpoint, write_seeded
from train.specs import dims, image_spec, prompt_spec, token_spec

Seeded = Callable[[str], Checkpoint]


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_same_seed_same_bytes_in_another_process(seeded_folder: Callable[[str], Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "train.seeded", str(tmp_path / "out"), "--variant", "dynamic_s2", "--seed", "0"]
    repository = Path(__file__).resolve().parents[2]
    # another hash seed: nothing may depend on the order of a set
    subprocess.run(command, check=True, cwd=repository, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert files(tmp_path / "out") == files(seeded_folder("dynamic_s2"))


def test_another_seed_gives_other_weights_and_the_same_tokenizer(tmp_path: Path) -> None:
    assert main([str(tmp_path / "one"), "--variant", "shared", "--seed", "1"]) == 0
    write_seeded(tmp_path / "two", "shared", seed=2)
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] != two[name]} == {n for n in one if n.endswith(".safetensors")}


def test_the_writer_refuses_an_unknown_variant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["out", "--variant", "C"])
    assert "invalid choice: 'C'" in capsys.readouterr().err


def test_variants_cover_the_layout() -> None:
    shapes = VARIANTS.values()
    assert {s.image_mode for s in shapes} == {"resize", "dynamic", "dynamic_s2"}
    assert {s.depth for s in shapes} == {"own", "shared", "none"}
    assert {s.projector for s in shapes} == {"mlp_downsample", "mlp_downsample_2x2_fix", "mlp_downsample_3x3_fix"}
    assert {s.tied for s in shapes} == {s.pooling_head for s in shapes} == {True, False}
    assert {s.dtype for s in shapes} == {torch.bfloat16, torch.float32}
    assert {s.grid % 2 for s in shapes} == {0, 1}


def test_every_tensor_differs_from_a_constant(seeded: Seeded, layout: str) -> None:
    flat = [n for n, p in seeded(layout).model.named_parameters() if p.numel() > 1 and float(p.detach().std()) < 0.01]
    assert flat == []


def test_no_step_is_a_coin_toss(seeded: Seeded, layout: str) -> None:
    checkpoint = seeded(layout)
    given = answer(checkpoint, question(checkpoint), max_new_tokens=16, return_logits=True)
    assert given.greedy.logits is not None
    best_two = given.greedy.logits.topk(2).values
    # a hundred times what two attention kernels differ by
    assert (best_two[:, 0] - best_two[:, 1]).min() > 7e-3


def test_the_placeholder_is_small_and_can_be_quantized() -> None:
    checkpoint = seeded_checkpoint(VARIANTS["placeholder"])
    model = checkpoint.model
    encoders = [model.vision_tower, model.mm_projector, model.depth_tower, model.depth_projector]
    bundle_bytes = sum(4 * p.numel() for part in encoders if part for p in part.parameters())
    bundle_bytes += sum(2 * p.numel() for p in model.llm.parameters())
    assert bundle_bytes < 4.5e6
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert all(m.in_features % 32 == 0 for m in linear)
    spec = image_spec(checkpoint)
    assert (spec.mode, spec.rgb.tile_px, dims(checkpoint).decoder_layers) == ("resize", 224, 4)


# --- what the robot is told about them -------------------------------------------------------------------


def test_specs_say_what_the_model_is(seeded: Seeded, layout: str) -> None:
    checkpoint, shape = seeded(layout), VARIANTS[layout]
    spec, sizes = image_spec(checkpoint), dims(checkpoint)
    assert (spec.mode, spec.max_tiles, spec.rgb.tile_px) == (shape.image_mode, shape.max_tiles, shape.tile_px)
    assert (spec.depth is None) == (shape.depth == "none") == (token_spec(checkpoint).depth is None)
    assert spec.s2_scales == tuple(f * shape.tile_px for f in shape.s2_factors)
    assert (sizes.tower_width, sizes.decoder_width) == (shape.tower_width, shape.width)
    assert sizes.patches_per_tile == shape.grid**2
    pixels = torch.zeros(1, 3, shape.tile_px, shape.tile_px)
    if not shape.s2_factors:
        with torch.no_grad():
            embeds = checkpoint.model.mm_projector(checkpoint.model.vision_tower(pixels))
        assert embeds.shape[1] == sizes.tokens_per_tile
    assert prompt_spec(checkpoint).prefix.endswith("<|im_start|>user\n")
    assert token_spec(checkpoint).normalizer == "nfc"


def test_a_checkpoint_in_memory_has_no_hash() -> None:
    checkpoint = seeded_checkpoint(VARIANTS["shared"])
    with pytest.raises(CheckpointError, match="never written"):
        _ = checkpoint.source_hash


def test_written_weights_are_the_ones_in_memory(tmp_path: Path) -> None:
    checkpoint = seeded_checkpoint(VARIANTS["resize"])
    write_seeded(tmp_path / "out", "resize")
    read = load_checkpoint(tmp_path / "out").model.state_dict()
    assert all(torch.equal(tensor, read[name]) for name, tensor in checkpoint.model.state_dict().items())
