"""Operations of a pass against torch's own counter; the verb; what cannot be planned."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from torch.utils.flop_counter import FlopCounterMode

from edge_runtime.errors import ConfigError
from tests.contracts.readme_tree import REPOSITORY
from tests.train.planning.measured import inputs_of, small_model
from train.planning.command import Assumed, run_plan, show
from train.planning.step_time import decoder_flop, pass_flop, tower_flop
from train.stages.learning import set_recomputing
from train.stages.network import LearningModel
from train.stages.presets import settings_of

SCHEMA = json.loads((REPOSITORY / "docs" / "schema" / "train_plan.json").read_text(encoding="utf-8"))
EVERYTHING = "learn=llm,vision_tower,mm_projector,depth_tower,depth_projector"


@pytest.mark.parametrize("recomputed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_operations_are_as_torch_counts_them(recomputed: bool) -> None:
    """torch counts attention in full, the planner the half that a token sees, and a second pass from end to end."""
    model, shape = small_model()
    settings = settings_of("sft_nano", "sft", [EVERYTHING, f"gradient_checkpointing={str(recomputed).lower()}"])
    set_recomputing(model, recomputed)
    inputs, work = inputs_of(model, text=200)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        (-LearningModel(model)(inputs).logprobs.sum()).backward()
    half = 2 * shape.decoder.layers * shape.decoder.width * work.sequences * work.tokens**2
    planned = pass_flop(shape, settings, work) + (4 if recomputed else 3) * half
    counted = counter.get_total_flops()
    # A second pass is planned whole; measured, it was 8 % less than that in all.
    assert planned == pytest.approx(counted, rel=0.08 if recomputed else 0.05)
    assert planned >= counted or not recomputed


def test_frozen_parts_cost_less() -> None:
    _, shape = small_model()
    _, work = inputs_of(small_model()[0])
    sft = settings_of("sft_nano", "sft", [EVERYTHING])
    align = settings_of("align_nano", "align")
    towers = 2 * tower_flop(shape, work.image_tiles)
    saved = pass_flop(shape, sft, work) - pass_flop(shape, align, work)
    projector = 2 * work.image_blocks * sum(a * b for a, b in shape.projector.linears)
    assert saved == pytest.approx(decoder_flop(shape, work) + 2 * towers + 2 * projector, rel=1e-9)


def test_a_report_is_complete_and_more_gpus_are_faster() -> None:
    report = run_plan("sft_2b", (1, 8, 64), (0, 3), (), Assumed())
    Draft202012Validator(SCHEMA).validate(report)
    assert [(row["gpus"], row["zero"], row["passes"]) for row in report["rows"]] == [
        (1, 0, 192), (1, 3, 192), (8, 0, 24), (8, 3, 24), (64, 0, 3), (64, 3, 3),
    ]  # fmt: skip
    times = {(row["gpus"], row["zero"]): row["computing_s"] for row in report["rows"]}
    assert times[1, 0] == pytest.approx(8 * times[8, 0], rel=1e-3)
    assert report["pass"] == {"tokens": 2 * 13 * 123 + 512, "tiles": 2 * 2 * 13, "learnt": 307}
    lines = show(report).splitlines()
    assert lines[0] == "sft_2b: 2.43 G weights learn, 30.5 M do not"
    assert len(lines) == 4 + 6


def test_an_8b_picture_has_tiles_of_every_scale() -> None:
    report = run_plan("sft_8b", (8,), (3,), (), Assumed())
    # 640x480 at most like 4 x 3 of the last scale's tiles; 1 and 4 of the smaller ones
    assert report["pass"]["tiles"] == 2 * (12 + 4 + 1)
    assert report["pass"]["tokens"] == 2 * (12 * 256 + 2) + 512


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sft_2c", (8,), (0,), ()), "sft_2b"),
        (("sft_nano", (8,), (0,), ()), "2b and 8b"),
        (("sft_2b", (5,), (0,), ()), "not a multiple"),
        (("sft_2b", (8,), (4,), ()), "is no stage"),
        (("sft_2b", (8,), (0,), ("max_tokens=1000",)), "take fewer --views"),
        (("sft_2b", (8,), (0,), ("learning=1",)), "learning_rate"),
    ],
)
def test_what_cannot_be_planned_is_told(
    arguments: tuple[str, tuple[int, ...], tuple[int, ...], tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_plan(*arguments, Assumed())


@pytest.mark.parametrize(("values", "message"), [({"gpu": "h101"}, "h100"), ({"mfu": 35}, "no share")])
def test_assumptions_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Assumed(**values)


@pytest.mark.slow
def test_the_verb() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from edge_runtime.cli import main; sys.exit(main())",
         "train", "plan", "qlora_8b", "--gpus", "1", "--zero", "0", "--gpu", "rtx4090", "--json"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    Draft202012Validator(SCHEMA).validate(json.loads(done.stdout.splitlines()[-1]))
