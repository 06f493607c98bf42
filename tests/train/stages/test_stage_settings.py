"""Presets against the published numbers, overrides, and the arithmetic of batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from edge_runtime.errors import CheckpointError, ConfigError, DataError
from train.stages.arithmetic import accumulation_of, plan_steps, warmup_steps
from train.stages.examples import places_of_pass
from train.stages.presets import check_architecture, make_settings, preset_names, settings_of, show
from train.stages.schedule import Schedule
from train.stages.settings import Settings

# roborefer.md section 7: the scripts' numbers.
PUBLISHED = {
    "align": {"global_batch": 448, "learning_rate": 1e-3, "weight_decay": 0.0, "warmup_ratio": 0.03, "epochs": 1},
    "sft": {"global_batch": 384, "learning_rate": 2e-5, "warmup_ratio": 0.03, "epochs": 1, "max_tokens": 16384},
}


def some(**values: object) -> Settings:
    return make_settings(
        {"stage": "sft", "architecture": "any", "learn": ["llm"], "global_batch": 8, "learning_rate": 1e-4, **values}
    )


@pytest.mark.parametrize("size", ["2b", "8b"])
@pytest.mark.parametrize("stage", ["align", "sft"])
def test_presets_have_the_published_numbers(stage: str, size: str) -> None:
    settings = settings_of(f"{stage}_{size}", stage)
    assert {key: getattr(settings, key) for key in PUBLISHED[stage]} == PUBLISHED[stage]
    assert settings.architecture == size
    assert settings.precision == "bf16"
    assert settings.gradient_checkpointing
    assert settings.learn == (("depth_projector",) if stage == "align" else settings.learn)


def test_every_preset_is_whole_and_survives_its_own_printing() -> None:
    for stage in ("align", "sft"):
        for name in preset_names(stage):
            printed = [line.replace(" = ", "=", 1) for line in show(settings_of(name, stage)).splitlines()]
            assert settings_of(f"{stage}_nano", stage, printed) == settings_of(name, stage)


def test_values_are_replaced_by_their_types() -> None:
    made = settings_of("sft_2b", "sft", ["learning_rate=1", "learn=llm,mm_projector", "packed=false", "precision=fp32"])
    assert (made.learning_rate, made.learn, made.packed) == (1.0, ("llm", "mm_projector"), False)
    assert made.precision == "fp32"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["learning_rte=1e-5"], "did you mean learning_rate"),
        (["learning_rate=fast"], "takes a number"),
        (["learning_rate"], "is not KEY=VALUE"),
        (["epochs=1.5"], "takes a whole number"),
        (["learn=lm"], "parts are llm, vision_tower"),
        (["precision=fp8"], "one of bf16, fp32"),
        (["max_grad_norm=0"], "lies between"),
        (["stage=align"], "the verb decides it"),
        (["learn=[]"], "nothing would learn"),
        (["frozen_weights=nf4"], "lora_rank above 0"),
        (["lora_rank=8"], "in learn and in lora_parts"),
        (["learn=mm_projector", "lora_rank=8", "frozen_weights=nf4"], "cannot be sharded"),
        (["optimizer=adamw_8bit"], "cannot be sharded"),
    ],
)
def test_wrong_settings_are_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings_of("sft_2b", "sft", overrides)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean sft_2b"):
        settings_of("sft-2b", "sft")
    with pytest.raises(ConfigError, match="no preset 'align_2b' of the stage sft"):
        settings_of("align_2b", "sft")


def test_a_global_batch_is_shared_out_exactly_or_not_at_all() -> None:
    assert accumulation_of(some(global_batch=384, per_device_batch=2), 8) == 24
    with pytest.raises(ConfigError, match="per_device_batch may be 1, 2, 4"):
        accumulation_of(some(global_batch=16, per_device_batch=3), 4)
    with pytest.raises(ConfigError, match="multiple of 3"):
        accumulation_of(some(global_batch=16, per_device_batch=1), 3)


def test_steps_of_a_run() -> None:
    plan = plan_steps(some(global_batch=8, epochs=3), 2, 30)
    assert (plan.steps_per_epoch, plan.total_steps, plan.left_over) == (3, 9, 6)
    assert plan_steps(some(global_batch=8, epochs=3, max_steps=4), 2, 30).total_steps == 4
    with pytest.raises(DataError, match="holds 7 packs, fewer than one global batch of 8"):
        plan_steps(some(), 1, 7)


@pytest.mark.parametrize(("processes", "per_device"), [(1, 8), (1, 2), (2, 4), (2, 1), (4, 2), (8, 1)])
def test_processes_share_a_step_without_gap_or_overlap(processes: int, per_device: int) -> None:
    plan = plan_steps(some(per_device_batch=per_device), processes, 30)
    for step in range(3):
        places = [
            place
            for process in range(processes)
            for passed in range(plan.accumulation)
            for place in places_of_pass(plan, process, step, passed)
        ]
        assert sorted(places) == list(range(8 * step, 8 * step + 8))


@pytest.mark.parametrize(("total", "ratio"), [(100, 0.03), (7, 0.5), (3, 0.0), (10, 1.0)])
def test_rates_are_those_of_transformers(total: int, ratio: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    oracle = get_cosine_schedule_with_warmup(optimizer, warmup_steps(total, ratio), total)
    ours = Schedule(0.5, total, warmup_steps(total, ratio))
    for step in range(total):
        assert ours.rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        oracle.step()


def test_another_architecture_is_told_by_its_keys() -> None:
    configs: dict[str, dict[str, Any]] = {
        "config.json": {"image_aspect_ratio": "dynamic_s2"},
        "llm/config.json": {"hidden_size": 3584, "num_hidden_layers": 28},
        "vision_tower/config.json": {"hidden_size": 1152, "num_hidden_layers": 27, "image_size": 448},
        "mm_projector/config.json": {"mm_projector_type": "mlp_downsample"},
    }
    check_architecture("8b", configs, Path("x"))
    with pytest.raises(CheckpointError, match=r"llm/config\.json: hidden_size is 3584, not 1536"):
        check_architecture("2b", configs, Path("x"))
