"""What goes wrong while exporting is named, and the bundle that was there before stays whole."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_runtime.bundle import manifest_sha256, open_bundle
from edge_runtime.errors import BundleInvalid, CheckpointError, ConfigError, EdgeError, StorageError
from export import assemble, parity
from export.assemble import STEPS, export_bundle

# Exports until the given step begins, says so, and then waits to be killed.
INTERRUPTED_EXPORT = """
import sys, time
from pathlib import Path
from export.assemble import export_bundle

def progress(step):
    if step == sys.argv[3]:
        print(step, flush=True)
        time.sleep(120)

export_bundle(Path(sys.argv[1]), Path(sys.argv[2]), progress=progress)
"""


@pytest.fixture
def source(checkpoint_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint_folder("rgb_only"), tmp_path / "checkpoint"))


@pytest.fixture
def old_bundle(exported: Callable[[str], Any], tmp_path: Path) -> Path:
    """A bundle at the place where a test exports to."""
    return Path(shutil.copytree(exported("rgb_only").path, tmp_path / "bundle"))


@contextmanager
def nothing_lost(out: Path) -> Iterator[None]:
    """The bundle at `out` is the same before and after, and no staging folder is left."""
    before = manifest_sha256(out)
    yield
    assert open_bundle(out, full_hash=True)
    assert manifest_sha256(out) == before
    assert [p.name for p in out.parent.iterdir() if p.name.startswith(".")] == []


@contextmanager
def files_end_at(limit_bytes: int) -> Iterator[None]:
    """Writing more into one file fails with an OSError, as on a full disk; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("file", "share"), [("decoder.gguf", 0.01), ("rgb_tower.onnx", 0.99)])
def test_a_disk_that_fills_up_leaves_the_old_bundle(
    checkpoint_folder: Callable[[str], Path], old_bundle: Path, file: str, share: float
) -> None:
    """Full within this file; those written before it are smaller."""
    limit_bytes = int(share * (old_bundle / file).stat().st_size)
    begun: list[str] = []
    with nothing_lost(old_bundle), files_end_at(limit_bytes), pytest.raises(StorageError, match="cannot"):
        export_bundle(checkpoint_folder("rgb_only"), old_bundle, progress=begun.append)
    assert begun[-1] == ("write the decoder" if file == "decoder.gguf" else "write the encoders")


def test_too_little_space_is_said_before_anything_is_written(
    checkpoint_folder: Callable[[str], Path], old_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(old_bundle)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 16))
    begun: list[str] = []
    with nothing_lost(old_bundle), pytest.raises(StorageError, match=r"takes about .* 0 MiB free"):
        export_bundle(checkpoint_folder("rgb_only"), old_bundle, progress=begun.append)
    assert begun == [STEPS[0]]


def test_a_folder_that_cannot_be_made_is_named(checkpoint_folder: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        export_bundle(checkpoint_folder("rgb_only"), tmp_path / "file" / "bundle")


def test_a_broken_limit_leaves_the_old_bundle(
    checkpoint_folder: Callable[[str], Path], old_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_encoders(_model: object, folder: Path) -> None:  # tracing again would take seconds
        for path in old_bundle.glob("*.onnx"):
            shutil.copy(path, folder)

    monkeypatch.setattr(assemble, "write_encoders", copy_encoders)
    monkeypatch.setattr(parity, "ENCODER_LIMIT", 0.0)
    with nothing_lost(old_bundle), pytest.raises(BundleInvalid, match="rgb_tower is off by") as raised:
        export_bundle(checkpoint_folder("rgb_only"), old_bundle)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("step", [STEPS[3]])
def test_a_killed_export_leaves_the_old_bundle(
    checkpoint_folder: Callable[[str], Path], old_bundle: Path, step: str
) -> None:
    before = manifest_sha256(old_bundle)
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_EXPORT, checkpoint_folder("rgb_only"), old_bundle, step],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == step
        child.send_signal(signal.SIGKILL)
    (staged,) = old_bundle.parent.glob(".bundle.partial-*")
    assert sorted(p.name for p in staged.iterdir()) == ["decoder.gguf", "golden.npz"]
    assert manifest_sha256(old_bundle) == before
    assert open_bundle(old_bundle, full_hash=True)


def test_a_folder_that_is_no_bundle_is_never_replaced(checkpoint_folder: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("mine")
    with pytest.raises(ConfigError, match="is not a bundle"):
        export_bundle(checkpoint_folder("rgb_only"), tmp_path / "photos")
    assert (tmp_path / "photos" / "one.jpg").read_text() == "mine"


@pytest.mark.parametrize("below", [".", "llm", "bundles/new"])
def test_nothing_is_written_into_the_checkpoint(source: Path, below: str) -> None:
    with pytest.raises(ConfigError, match="lies in the checkpoint"):
        export_bundle(source, source / below)


# --- checkpoints ------------------------------------------------------------------------------------


def _no_projector(root: Path) -> None:
    shutil.rmtree(root / "mm_projector")


def _no_chat_template(root: Path) -> None:
    path = root / "llm" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template")
    path.write_text(json.dumps(config))


def _unreadable(*name: str) -> Callable[[Path], None]:
    """A file that opens and cannot be read, even by root."""

    def damage(root: Path) -> None:
        path = root.joinpath(*name)
        path.unlink(missing_ok=True)
        path.symlink_to("/proc/self/mem")

    return damage


def _other_normalizer(root: Path) -> None:
    path = root / "llm" / "tokenizer.json"
    document = json.loads(path.read_text())
    document["normalizer"] = {"type": "NFKC"}
    path.write_text(json.dumps(document))


def _truncated_tower(root: Path) -> None:
    path = root / "vision_tower" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4096])


def _other_llm(root: Path) -> None:
    path = root / "llm" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "model_type": "llama"}))


def _not_a_number(part: str, name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / part / "model.safetensors"
        tensors = load_file(path)
        broken = tensors[name].astype(np.float32)
        broken.flat[0] = np.nan
        save_file({**tensors, name: broken.astype(tensors[name].dtype)}, path, metadata={"format": "pt"})

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(_no_projector, "names the part mm_projector", id="no-projector"),
        pytest.param(_no_chat_template, "chat_template", id="no-chat-template"),
        pytest.param(_unreadable("llm", "merges.txt"), "cannot be read", id="unreadable-tokenizer"),
        pytest.param(_unreadable("vision_tower", "model.safetensors"), "damaged|cannot be read", id="unreadable-tower"),
        pytest.param(_unreadable("notes.txt"), "cannot be read", id="unreadable-note"),
        pytest.param(_other_normalizer, "normalises with NFKC", id="other-normalizer"),
        pytest.param(_truncated_tower, "damaged or incomplete", id="truncated-tower"),
        pytest.param(_other_llm, "llama", id="other-llm"),
        pytest.param(_not_a_number("mm_projector", "layers.2.bias"), "NaN", id="nan-projector"),
        pytest.param(_not_a_number("llm", "model.norm.weight"), "NaN", id="nan-decoder"),
    ],
)
def test_a_checkpoint_that_cannot_be_exported_is_named(
    source: Path, old_bundle: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(source)
    with nothing_lost(old_bundle), pytest.raises(EdgeError, match=words) as raised:
        export_bundle(source, old_bundle)
    assert isinstance(raised.value, CheckpointError)
    assert raised.value.exit_code == 3
