"""Whole runs of a few steps: what changes, what is left on the disk, how they go on, what they refuse."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from PIL import Image

from edge_runtime.errors import CheckpointError, ConfigError, DataError
from tests.contracts.readme_tree import REPOSITORY
from tests.train.data.trees import sample, write_pictures, write_tree
from tests.train.stages.runs import losses, train
from train.checkpoint import load_checkpoint, save_checkpoint
from train.part_files import hash_folder
from train.spatial.formats import Turn, write_training
from train.stages import trainer as trainer_module
from train.stages.command import run_init_depth
from train.stages.memory import OutOfMemory
from train.stages.run_folder import RunFolder
from train.stages.trainer import Diverged


def checked(report: object, schema: str) -> None:
    Draft202012Validator(json.loads((REPOSITORY / f"docs/schema/{schema}.json").read_text())).validate(report)


def part_hashes(checkpoint: Path) -> dict[str, str]:
    return {part.name: hash_folder(part) for part in sorted(checkpoint.iterdir()) if part.is_dir()}


def test_from_rgb_only_to_aligned(seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    report = run_init_depth(seeded_folder("rgb_only"), begun, projector="new", shared_tower=False, seed=3)
    checked(report, "train_init_depth")
    made, base = load_checkpoint(begun), load_checkpoint(seeded_folder("rgb_only"))
    assert made.model.depth_projector is not None
    assert made.model.depth_tower is not None
    assert {n: t.shape for n, t in made.model.depth_projector.state_dict().items()} == {
        n: t.shape for n, t in base.model.mm_projector.state_dict().items()
    }
    torch.testing.assert_close(
        made.model.depth_tower.state_dict(), base.model.vision_tower.state_dict(), rtol=0, atol=0
    )
    with pytest.raises(CheckpointError, match="has a depth projector already"):
        run_init_depth(begun, tmp_path / "again", projector="new", shared_tower=False, seed=0)

    checked(train("align", begun, tree, tmp_path / "run", log_steps=1), "train_stage")
    before, after = part_hashes(begun), part_hashes(tmp_path / "run" / "model")
    assert [part for part in before if before[part] != after[part]] == ["depth_projector"]
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.tfevents.*"))


def test_a_run_goes_on_where_it_was_and_is_finished_once(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = seeded_folder("resize")
    whole = train("sft", base, tree, tmp_path / "whole", max_steps=8, save_steps=3)
    kept = sorted(path.name for path in (tmp_path / "whole" / "checkpoints").iterdir())
    assert kept == ["step-00000006", "step-00000008"]

    def fail(self: object, *_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        note = trainer_module.Trainer._note
        patched.setattr(
            trainer_module.Trainer, "_note", lambda self, step: fail(self) if step.step == 6 else note(self, step)
        )
        with pytest.raises(KeyboardInterrupt):
            train("sft", base, tree, tmp_path / "parts", max_steps=8, save_steps=3)
    assert len(losses(tmp_path / "parts")) == 5
    (tmp_path / "parts" / "checkpoints" / ".partial-dead").mkdir()
    # what only decides how may change: one sequence at a time now
    resumed = train("sft", base, tree, tmp_path / "parts", max_steps=8, save_steps=3, per_device_batch=1)
    assert resumed["resumed_from"] == 3
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    assert not (tmp_path / "parts" / "checkpoints" / ".partial-dead").exists()
    again = train("sft", base, tree, tmp_path / "parts", max_steps=8, save_steps=3)
    assert (again["resumed_from"], again["loss_last"]) == (8, resumed["loss_last"])
    assert whole["tokens"] == resumed["tokens"]


def test_a_changed_run_is_refused_with_the_difference(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path
) -> None:
    base, out = seeded_folder("resize"), tmp_path / "run"
    train("sft", base, tree, out, max_steps=1)
    with pytest.raises(ConfigError, match=r"settings\.learning_rate: 0\.0001 -> 0\.01"):
        train("sft", base, tree, out, max_steps=1, learning_rate=0.01)
    with pytest.raises(ConfigError, match=r"data.datasets.3D_multi_view_qa"):
        train("sft", base, tree, out, max_steps=1, mixture="3D_choice_qa")
    with pytest.raises(ConfigError, match="checkpoint_sha256"):
        train("sft", seeded_folder("shared"), tree, out, max_steps=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"thesis.tex"):
        train("sft", base, tree, tmp_path / "other", max_steps=1)
    with RunFolder(out, keep=1).locked(), pytest.raises(ConfigError, match="another run trains into"):
        train("sft", base, tree, out, max_steps=1)


@pytest.mark.slow
def test_adapters_and_eight_bits_go_on_alike(seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "learn": ["mm_projector"],
        "lora_rank": 4,
        "lora_dropout": 0.1,
        "frozen_weights": "nf4",
        "optimizer": "adamw_8bit",
        "max_steps": 4,
        "learning_rate": 1e-3,
        "save_steps": 2,
        "keep_checkpoints": 9,
    }
    base = seeded_folder("resize")
    train("sft", base, tree, tmp_path / "whole", **told)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "model")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-00000004")
    assert train("sft", base, tree, tmp_path / "parts", **told)["resumed_from"] == 2
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert part_hashes(tmp_path / "parts" / "model") == part_hashes(tmp_path / "whole" / "model")
    assert load_checkpoint(tmp_path / "parts").config.has_depth  # RoboRefer's layout, no adapters in it


@pytest.mark.slow
def test_bfloat16_runs_where_there_is_no_gpu(seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path) -> None:
    base = seeded_folder("resize")
    for precision in ("fp32", "bf16"):
        train("sft", base, tree, tmp_path / precision, max_steps=2, precision=precision, gradient_checkpointing=True)
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "fp32"), rel=0.02)


# --- bad input ----------------------------------------------------------------------------------------


def test_broken_samples_are_skipped_counted_and_listed(seeded_folder: Callable[[str], Path], tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data")
    (root / "3D/image/000.jpg").unlink()
    (root / "3D/image/001.jpg").write_bytes((root / "3D/image/001.jpg").read_bytes()[:100])
    Image.new("L", (10, 10)).save(root / "3D/depth/002.png")
    report = train("sft", seeded_folder("resize"), root, tmp_path / "run", mixture="3D_choice_qa", max_steps=3)
    listed = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert report["skipped"] == len(listed) == 3
    reasons = " ".join(sorted(f"{one['id']}: {one['reason']}" for one in listed))
    for told in ("000", "there is no file", "001", "002", "10x10"):
        assert told in reasons


def test_an_answer_without_a_point_is_no_sample(seeded_folder: Callable[[str], Path], tmp_path: Path) -> None:
    root, asked = tmp_path / "data", sample("a").turns[0].asked
    said = sample("a", [Turn(asked, "over there")])
    write_pictures(root / "3D", said)
    write_training(root / "3D" / "choice_qa.json", [said])
    with pytest.raises(DataError, match="no_point 1"):
        train("sft", seeded_folder("resize"), root, tmp_path / "run", mixture="3D_choice_qa")


def test_too_long_samples_are_replaced_or_end_the_run(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"in a row are too long.*max_tokens is 40"):
        train("sft", seeded_folder("resize"), tree, tmp_path / "run", max_tokens=40)


@pytest.mark.parametrize(
    ("variant", "mixture", "settings", "says"),
    [
        ("resize", "3D_chioce_qa", {}, "did you mean 3D_choice_qa"),
        ("rgb_only", "3D_choice_qa", {"learn": ["llm"]}, "takes no depth.*3D_choice_qa_RGB.*init-depth"),
        ("resize", "3D_choice_qa", {"architecture": "2b"}, "llm/config.json: hidden_size is 64, not 1536"),
        ("resize", "3D_choice_qa", {"per_device_batch": 3}, "global_batch 4 is not a multiple"),
        ("resize", "3D_choice_qa", {"global_batch": 64}, "holds 6 packs, fewer than one global batch"),
        ("resize", "3D_choice_qa", {"architecture": "2c"}, "no architecture '2c'"),
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
        train("sft", seeded_folder(variant), tree, tmp_path / "run", mixture=mixture, **settings)
    assert not (tmp_path / "run" / "run.json").exists()


def test_out_of_memory_names_the_knobs(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.stages.objective import NextToken

    def refuse(*_: object) -> torch.Tensor:
        return torch.empty(2**60)  # the allocator's own refusal

    monkeypatch.setattr(NextToken, "loss", refuse)
    with pytest.raises(OutOfMemory, match=r"per_device_batch=2 .*gradient_checkpointing=true.*max_tiles") as error:
        train("sft", seeded_folder("resize"), tree, tmp_path / "run", gradient_checkpointing=False)
    assert "4 sequences" in str(error.value)


def test_a_loss_that_is_no_number_ends_the_run(
    seeded_folder: Callable[[str], Path], tree: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(seeded_folder("resize"))
    checkpoint.model.llm.model.norm.weight.data[0] = float("nan")
    save_checkpoint(checkpoint, tmp_path / "spoilt")
    with pytest.raises(Diverged, match=r"step 1: the loss is nan.*lower learning_rate"):
        train("sft", tmp_path / "spoilt", tree, tmp_path / "run")
