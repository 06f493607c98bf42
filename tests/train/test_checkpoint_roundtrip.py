"""Read, write, read again: nothing is lost, and a failed write loses nothing either."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edge_runtime.errors import CheckpointError, StorageError
from hardware import storage
from tests.train.questions import question
from train import checkpoint as checkpoint_module
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.inputs import answer

Folder = Callable[[str], Path]


def tensors_on_disk(root: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Part -> all its tensors, whatever files they lie in."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for path in sorted(root.glob("*/*.safetensors")):
        parts.setdefault(path.parent.name, {}).update(load_file(path))
    return parts


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def assert_same_model(ours: Checkpoint, theirs: Checkpoint) -> None:
    one, other = ours.model.state_dict(), theirs.model.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert ours.config.parts == theirs.config.parts
    assert ours.file_dtypes == theirs.file_dtypes
    assert ours.tokenizer_files.files == theirs.tokenizer_files.files


def test_what_is_written_is_what_was_read(seeded_folder: Folder, layout: str, tmp_path: Path) -> None:
    first = load_checkpoint(seeded_folder(layout))
    save_checkpoint(first, tmp_path / "again", max_shard_bytes=150_000)
    assert_same_model(load_checkpoint(tmp_path / "again"), first)
    before, after = tensors_on_disk(seeded_folder(layout)), tensors_on_disk(tmp_path / "again")
    assert before.keys() == after.keys() == set(first.config.parts)
    for part in before:
        assert before[part].keys() == after[part].keys()
        for name, tensor in before[part].items():
            assert after[part][name].dtype == tensor.dtype
            assert torch.equal(after[part][name], tensor)


def test_a_second_round_writes_the_same_bytes(seeded_folder: Folder, layout: str, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(seeded_folder(layout)), tmp_path / "one")
    save_checkpoint(load_checkpoint(tmp_path / "one"), tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_unknown_keys_survive_and_machine_paths_do_not(seeded_folder: Folder, tmp_path: Path) -> None:
    source = edited(seeded_folder("shared"), tmp_path / "source", fabit="E4M3", resume_path="/home/somebody/run")
    save_checkpoint(load_checkpoint(source), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["fabit"] == "E4M3"
    assert "/home/somebody" not in (tmp_path / "out" / "config.json").read_text()
    assert written["depth_tower_cfg"] is None
    assert written["use_depth_tower"] is False
    assert written["llm_cfg"]["vocab_size"] == written["llm_cfg"]["eos_token_id"] + 7


def edited(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a checkpoint whose config.json has other values; None removes a key."""
    save_checkpoint(load_checkpoint(source), target)
    path = target / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None or k.endswith("_cfg")}))
    return target


def test_shards_hold_what_the_index_says(seeded_folder: Folder) -> None:
    folder = seeded_folder("dynamic_s2") / "llm"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    names = sorted(folder.glob("*.safetensors"))
    assert len(names) > 1
    for path in names:
        with safe_open(path, framework="pt") as shard:
            assert {n for n, f in index["weight_map"].items() if f == path.name} == set(shard.keys())
            assert shard.metadata() == {"format": "pt"}


def test_tied_model_writes_no_head(seeded_folder: Folder) -> None:
    assert "lm_head.weight" not in tensors_on_disk(seeded_folder("dynamic"))["llm"]
    assert "lm_head.weight" in tensors_on_disk(seeded_folder("resize"))["llm"]
    llm = load_checkpoint(seeded_folder("dynamic")).model.llm
    assert llm.lm_head.weight is llm.get_input_embeddings().weight


def test_training_output_is_found_in_its_model_folder(seeded_folder: Folder, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(seeded_folder("resize")), tmp_path / "run" / "model")
    found = load_checkpoint(tmp_path / "run")
    assert found.path == tmp_path / "run" / "model"


def test_a_part_may_lie_elsewhere(seeded_folder: Folder, tmp_path: Path) -> None:
    elsewhere = str(seeded_folder("dynamic") / "vision_tower")
    source = edited(seeded_folder("dynamic"), tmp_path / "source", vision_tower_cfg=elsewhere)
    for path in (source / "vision_tower").iterdir():
        path.unlink()
    assert_same_model(load_checkpoint(source), load_checkpoint(seeded_folder("dynamic")))


def test_weights_can_be_loaded_and_written_in_another_dtype(seeded_folder: Folder, tmp_path: Path) -> None:
    half = load_checkpoint(seeded_folder("resize"), dtype=torch.bfloat16)
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert half.model.llm.model.rotary_emb.inv_freq.dtype == torch.float32
    save_checkpoint(half, tmp_path / "half", dtype=torch.bfloat16)
    assert set(load_checkpoint(tmp_path / "half").file_dtypes.values()) == {torch.bfloat16}


def test_loading_and_answering_reach_no_network(seeded_folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    checkpoint = load_checkpoint(seeded_folder("dynamic"))
    assert answer(checkpoint, question(checkpoint), max_new_tokens=2).greedy.ids


def test_source_hash_is_of_the_content(seeded_folder: Folder, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(seeded_folder("shared")), tmp_path / "a")
    save_checkpoint(load_checkpoint(seeded_folder("shared")), tmp_path / "b")
    assert load_checkpoint(tmp_path / "a").source_hash == load_checkpoint(tmp_path / "b").source_hash
    template = tmp_path / "b" / "llm" / "tokenizer_config.json"
    template.write_bytes(template.read_bytes().replace(b"helpful", b"careful"))
    assert load_checkpoint(tmp_path / "a").source_hash != load_checkpoint(tmp_path / "b").source_hash


@pytest.mark.parametrize("linked", [False, True], ids=["named by the config", "behind a link"])
def test_source_hash_covers_parts_that_lie_elsewhere(seeded_folder: Folder, tmp_path: Path, linked: bool) -> None:
    root, decoder = tmp_path / "root", tmp_path / "decoder"
    shutil.copytree(seeded_folder("shared"), root)
    inside = load_checkpoint(root).source_hash
    (root / "llm").rename(decoder)
    if linked:
        (root / "llm").symlink_to(decoder)
        assert load_checkpoint(root).source_hash == inside  # the same files under the same names
    else:
        config = json.loads((root / "config.json").read_text())
        (root / "config.json").write_text(json.dumps({**config, "llm_cfg": str(decoder)}))
    before = load_checkpoint(root).source_hash
    weights = decoder / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    assert load_checkpoint(root).source_hash != before


def test_a_file_that_cannot_be_hashed_is_named(seeded_folder: Folder, tmp_path: Path) -> None:
    root = Path(shutil.copytree(seeded_folder("shared"), tmp_path / "root"))
    (root / "notes.txt").symlink_to("/proc/self/mem")  # opens, and cannot be read even by root
    with pytest.raises(CheckpointError, match=r"notes\.txt cannot be read"):
        _ = load_checkpoint(root).source_hash


# --- writing over something ----------------------------------------------------------------------------


def test_an_older_checkpoint_is_replaced(seeded_folder: Folder, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(seeded_folder("dynamic")), tmp_path / "out")
    save_checkpoint(load_checkpoint(seeded_folder("shared")), tmp_path / "out")
    assert load_checkpoint(tmp_path / "out").config.parts == ("llm", "vision_tower", "mm_projector", "depth_projector")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("fails", ["write_tensors", "replace_folder"])
def test_the_old_checkpoint_stays_whole_when_writing_fails(
    seeded_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    save_checkpoint(load_checkpoint(seeded_folder("shared")), tmp_path / "out")
    before = files(tmp_path / "out")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, fails, full_disk)
    with pytest.raises(StorageError, match="No space left"):
        save_checkpoint(load_checkpoint(seeded_folder("dynamic")), tmp_path / "out")
    assert files(tmp_path / "out") == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_old_checkpoint_returns_when_the_last_move_fails(
    seeded_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(load_checkpoint(seeded_folder("shared")), tmp_path / "out")
    before = files(tmp_path / "out")
    rename = Path.rename

    def refuse_staged(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(storage, "_exchange", lambda *_: False)  # a file system with renames only
    monkeypatch.setattr(Path, "rename", refuse_staged)
    with pytest.raises(StorageError, match="Input/output"):
        save_checkpoint(load_checkpoint(seeded_folder("dynamic")), tmp_path / "out")
    assert files(tmp_path / "out") == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_current_folder_is_refused(seeded_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="the current folder"):
        save_checkpoint(load_checkpoint(seeded_folder("shared")), ".")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_in_it_is_not_replaced(seeded_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"holds \['holiday.jpg'\].*would be lost"):
        save_checkpoint(load_checkpoint(seeded_folder("shared")), tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        save_checkpoint(load_checkpoint(seeded_folder("shared")), tmp_path / "holiday.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


# --- the recorded checkpoints ---------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("variant", "ABCD")
def test_recorded_checkpoints_survive_a_round(golden: Path, variant: str, tmp_path: Path) -> None:
    source = golden / variant / "checkpoint"
    first = load_checkpoint(source)
    save_checkpoint(first, tmp_path / "again", max_shard_bytes=200_000)
    assert_same_model(load_checkpoint(tmp_path / "again"), first)
    before, after = tensors_on_disk(source), tensors_on_disk(tmp_path / "again")
    assert {part: set(tensors) for part, tensors in before.items()} == {p: set(t) for p, t in after.items()}
    rows = len(first.tokenizer)
    for part, tensors in before.items():
        for name, tensor in tensors.items():
            kept = tensor[:rows] if name in ("model.embed_tokens.weight", "lm_head.weight") else tensor
            assert torch.equal(after[part][name], kept)
    tokenizer = [p.name for p in (source / "llm").iterdir() if p.suffix in (".json", ".txt") and "token" in p.name]
    for name in [*tokenizer, "vocab.json", "merges.txt"]:
        assert (tmp_path / "again" / "llm" / name).read_bytes() == (source / "llm" / name).read_bytes()
    if variant == "D":
        assert len(list((tmp_path / "again" / "llm").glob("model-*.safetensors"))) == 2


@pytest.mark.reference
def test_rows_beyond_the_tokenizer_are_dropped(golden: Path) -> None:
    checkpoint = load_checkpoint(golden / "C" / "checkpoint")
    on_disk = tensors_on_disk(golden / "C" / "checkpoint")["llm"]["model.embed_tokens.weight"]
    table = checkpoint.model.llm.get_input_embeddings().weight
    assert (len(on_disk), len(table)) == (422, len(checkpoint.tokenizer))
    assert torch.equal(table, on_disk[:409].float())
