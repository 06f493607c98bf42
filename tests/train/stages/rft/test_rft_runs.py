"""Whole runs of rft on tiny models: what is logged, what changes, how they go on, what they refuse."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator

from edge_runtime.errors import CheckpointError, ConfigError, DataError
from tests.contracts.readme_tree import REPOSITORY
from tests.train.stages.runs import arguments, finish, start, train
from tests.train.stages.test_distributed import free_port
from tests.train.stages.test_killed import forked, wait_for_step
from train.checkpoint import load_checkpoint
from train.part_files import hash_folder
from train.stages.presets import settings_of
from train.stages.rft.rewards import PARTS

TOLD: dict[str, Any] = {
    "answers_per_question": 3,
    "max_answer_tokens": 5,
    "learning_rate": 1e-3,
    "per_device_batch": 2,
    "warmup_ratio": 0.0,
}


def log_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def figures(out: Path) -> list[list[float]]:
    """What the policy did at every step."""
    return [[step[name] for name in ("loss", "norm", "kl", "reward", "answer_tokens")] for step in log_of(out)]


def part_hashes(checkpoint: Path) -> dict[str, str]:
    return {part.name: hash_folder(part) for part in sorted(checkpoint.iterdir()) if part.is_dir()}


def test_a_run_logs_every_reward_and_changes_what_learns(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path
) -> None:
    base = seeded_folder("resize")
    report = train("rft", base, tree, tmp_path / "run", **TOLD, learn=["llm"], max_steps=3)
    schema = json.loads((REPOSITORY / "docs/schema/train_stage.json").read_text())
    Draft202012Validator(schema).validate(report)
    log = log_of(tmp_path / "run")
    for step in log:
        assert {f"reward_{part}" for part in PARTS} <= set(step)
        total = step["reward_format"] + step["reward_point"]
        total += 0.25 * (step["reward_process_format"] + step["reward_process_accuracy"])
        assert step["reward"] == pytest.approx(total)
        assert step["weight"] == 4 * 3
        assert 1 <= step["answer_tokens"] <= 5
    assert log[0]["kl"] == pytest.approx(0, abs=1e-6)  # the policy is still the reference
    assert report["reward_first"] == log[0]["reward"]
    before, after = part_hashes(base), part_hashes(tmp_path / "run" / "model")
    # random models are never rewarded, so there is no advantage: only rounding of the distance may move a weight
    assert {part for part in before if before[part] != after[part]} <= {"llm"}
    assert load_checkpoint(tmp_path / "run").config.has_depth


@pytest.fixture
def rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models never point: reward short answers, so that there is something to learn."""
    from train.stages.rft import source
    from train.stages.rft.rewards import Rewards

    def by_length(text: str, *_: object, **__: object) -> Rewards:
        return Rewards(0.0, float(len(text) % 2), 0.0, 0.0)

    monkeypatch.setattr(source, "rewards_of", by_length)


@pytest.mark.usefixtures("rewarded")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_killed_run_goes_on_to_the_same_numbers(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path
) -> None:
    base, whole, parts = seeded_folder("resize"), tmp_path / "whole", tmp_path / "parts"
    told = {**TOLD, "max_steps": 6, "save_steps": 2}
    train("rft", base, tree, whole, **told)
    child = forked(lambda: train("rft", base, tree, parts, **told))
    wait_for_step(parts, 3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # what only decides how may change: one question at a time now
    resumed = train("rft", base, tree, parts, **{**told, "per_device_batch": 1})
    assert resumed["resumed_from"] >= 2
    assert torch.tensor(figures(parts)).flatten().tolist() == pytest.approx(
        torch.tensor(figures(whole)).flatten().tolist(), rel=1e-3, abs=1e-5
    )
    assert log_of(whole)[-1]["kl"] > 1e-4
    with pytest.raises(ConfigError, match=r"settings\.kl_weight: 0\.04 -> 0\.5"):
        train("rft", base, tree, parts, **{**told, "kl_weight": 0.5})


@pytest.mark.usefixtures("rewarded")
@pytest.mark.slow
def test_adapters_learn_and_are_written_merged(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path
) -> None:
    base = seeded_folder("resize")
    train("rft", base, tree, tmp_path / "run", **TOLD, learn=["mm_projector"], lora_rank=4, max_steps=3)
    before, after = part_hashes(base), part_hashes(tmp_path / "run" / "model")
    assert {part for part in before if before[part] != after[part]} == {"llm", "mm_projector"}
    assert log_of(tmp_path / "run")[-1]["kl"] > 0


# nano points, so some of its answers are rewarded: random models never are. Every answer of a group is short.
NANO = REPOSITORY / "models" / "nano" / "checkpoint"
POINTING = {**TOLD, "max_answer_tokens": 16, "point_px": 25, "learning_rate": 1e-4, "max_steps": 3}


@pytest.fixture(scope="module")
def of_one_process(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    out = tmp_path_factory.mktemp("one") / "run"
    train("rft", NANO, tree, out, **POINTING)
    assert any(0 < step["reward"] < 1 for step in log_of(out))
    assert log_of(out)[-1]["kl"] > 1e-5
    return figures(out)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("sharding", ["none", "fully_shard"])
def test_two_processes_draw_and_learn_as_one(
    tree: Path, tmp_path: Path, of_one_process: list[list[float]], sharding: str
) -> None:
    words = arguments("rft", NANO, tree, tmp_path, **{**POINTING, "per_device_batch": 1, "sharding": sharding})
    finish(start(words, processes=2, port=free_port()), 500)
    torch.testing.assert_close(torch.tensor(figures(tmp_path)), torch.tensor(of_one_process), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "mixture", "settings", "says"),
    [
        ("resize", "3D_choice_qa", {"reasoning_steps": 3}, "no question with 3 annotated steps; there are"),
        ("resize", "3D_choice_qa", {"global_batch": 64}, "holds 6 questions, fewer than one global batch of 64"),
        ("rgb_only", "3D_choice_qa", {"learn": ["llm"]}, "takes no depth.*3D_choice_qa_RGB.*init-depth"),
        ("resize", "3D_choice_qa", {"architecture": "2b"}, "llm/config.json: hidden_size is 64, not 1536"),
        ("resize", "3D_chioce_qa", {}, "did you mean 3D_choice_qa"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    seeded_folder: Callable[[str], Path],
    tree: Path,
    tmp_path: Path,
    variant: str,
    mixture: str,
    settings: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises((ConfigError, CheckpointError, DataError), match=says):
        train("rft", seeded_folder(variant), tree, tmp_path / "run", mixture=mixture, **settings)
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("stage", "overrides", "says"),
    [
        ("rft", ["answers_per_question=1"], "lies between 2 and 1024"),
        ("rft", ["kl_weight=-1"], "lies between 0 and 100"),
        ("rft", ["answer_per_question=4"], "did you mean answers_per_question"),
        ("sft", ["kl_weight=0.1"], "kl_weight means something for `train rft` only"),
    ],
)
def test_wrong_settings_are_refused(stage: str, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings_of(f"{stage}_nano", stage, overrides)


@pytest.mark.parametrize("size", ["2b", "8b"])
def test_presets_have_the_published_numbers(size: str) -> None:
    settings = settings_of(f"rft_{size}", "rft")
    assert (settings.answers_per_question, settings.epochs, settings.point_px) == (8, 2, 50.0)
    assert settings.kl_weight > 0
    assert settings.architecture == size
