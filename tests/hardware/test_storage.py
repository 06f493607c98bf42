"""Whole or not at all: what is at a place while its content is replaced, whatever stops that."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hardware import storage
from hardware.camera.replay_writer import ReplayWriter
from hardware.errors import StorageError
from hardware.storage import check_target, replace_folder, storage_errors, whole_file


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return folder(tmp_path / "bundle", "old")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return folder(tmp_path / ".bundle.partial-1", "new")


def folder(path: Path, word: str) -> Path:
    path.mkdir()
    (path / "manifest.json").write_text(word)
    return path


def word_in(path: Path) -> str:
    return (path / "manifest.json").read_text()


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


@pytest.fixture
def two_renames(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot exchange two names."""
    monkeypatch.setattr(storage, "_exchange", lambda *_: False)


class FailingRename:
    """`Path.rename` that stops at its nth call, before or after doing its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, *, at: int, done: bool) -> None:
        self._real: Callable[[Path, Path], Path] = Path.rename
        self._error, self._at, self._done = error, at, done
        self.calls = 0

        def rename(path: Path, to: Path) -> Path:
            return self._rename(path, to)

        monkeypatch.setattr(Path, "rename", rename)

    def _rename(self, path: Path, to: Path) -> Path:
        self.calls += 1
        if self.calls != self._at:
            return self._real(path, to)
        if self._done:
            self._real(path, to)
        raise self._error


# --- folders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("there", ["nothing", "empty folder", "folder", "link", "dangling link"])
def test_the_new_folder_is_there_and_nothing_else(
    tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool, there: str
) -> None:
    if not exchange:
        monkeypatch.setattr(storage, "_exchange", lambda *_: False)
    place = tmp_path / "bundle"
    (tmp_path / "target").mkdir()
    prepare: dict[str, Callable[[], Any]] = {
        "nothing": lambda: None,
        "empty folder": place.mkdir,
        "folder": lambda: folder(place, "old"),
        "link": lambda: place.symlink_to(tmp_path / "target"),
        "dangling link": lambda: place.symlink_to(tmp_path / "nowhere"),
    }
    prepare[there]()
    replace_folder(new, place)
    assert word_in(place) == "new"
    assert names_in(tmp_path) == ["bundle", "target"]


def test_linux_exchanges_in_one_step_so_that_no_moment_is_without_a_folder(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither rename may be used: between two of them a SIGKILL would leave nothing under the name."""
    probe = new.parent / "probe"
    probe.mkdir()
    if not storage._exchange(probe, old):
        pytest.skip("this file system cannot exchange two names")
    storage._exchange(probe, old)
    rename = FailingRename(monkeypatch, AssertionError("renamed"), at=1, done=False)
    replace_folder(new, old)
    assert (word_in(old), rename.calls) == ("new", 0)
    assert not new.exists()


def test_what_the_kernel_refuses_to_exchange_is_an_error(tmp_path: Path, old: Path) -> None:
    with pytest.raises(StorageError, match="No such file"), storage_errors(old):
        replace_folder(tmp_path / "none", old)
    assert word_in(old) == "old"


@pytest.mark.usefixtures("two_renames")
@pytest.mark.parametrize(
    "error", [SystemExit(143), KeyboardInterrupt(), OSError("full")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize(
    ("at", "done", "survivor"),
    [
        pytest.param(1, False, "old", id="before the first"),
        pytest.param(1, True, "old", id="after the first"),
        pytest.param(2, False, "old", id="before the second"),
        pytest.param(2, True, "new", id="after the second"),
    ],
)
def test_whatever_stops_a_rename_one_whole_folder_is_left(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int, done: bool, survivor: str
) -> None:
    with monkeypatch.context() as patch:
        rename = FailingRename(patch, error, at=at, done=done)
        with pytest.raises(type(error)):
            replace_folder(new, old)
        assert rename.calls >= at
    assert word_in(old) == survivor
    assert not list(old.parent.glob(".*.replaced-*"))


@pytest.mark.usefixtures("two_renames")
def test_an_older_folder_that_cannot_be_put_back_is_kept_and_named(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rename
    calls: list[Path] = []

    def rename(path: Path, to: Path) -> Path:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(StorageError, match=r"it is kept as .*\.bundle\.replaced-"):
            replace_folder(new, old)
    (kept,) = old.parent.glob(".bundle.replaced-*/bundle")
    assert word_in(kept) == "old"


# --- places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "says"),
    [(".", "the current folder"), ("..", "a folder around"), ("/", "cannot be replaced"), ("/proc", "a mount point")],
)
def test_a_place_that_cannot_be_replaced_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=says):
        check_target(Path(where))
    check_target(Path("new"))
    check_target(tmp_path / "a" / "b")


def test_a_recorder_refuses_the_current_folder_before_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="the current folder"), ReplayWriter(Path()):
        pass
    assert not list(tmp_path.iterdir())


# --- files ----------------------------------------------------------------------------------------------


def test_a_whole_file_appears_with_the_rights_of_any_new_file(tmp_path: Path) -> None:
    path = tmp_path / "made" / "K.json"
    with whole_file(path) as partial:
        partial.write_text("new")
        assert (partial.parent, partial.suffix) == (path.parent, ".json")
        assert not path.exists()
    (tmp_path / "plain").write_text("")
    assert path.read_text() == "new"
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names_in(path.parent) == ["K.json"]


@pytest.mark.parametrize("error", [SystemExit(143), ValueError("wrong")], ids=lambda e: type(e).__name__)
def test_what_fails_half_way_leaves_the_old_file_only(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "K.json"
    path.write_text("old")
    with pytest.raises(type(error)), whole_file(path) as partial:
        partial.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["K.json"]


def test_a_place_for_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file" / "K.json", tmp_path / "folder"):
        with pytest.raises(StorageError, match="cannot write"), whole_file(place) as partial:
            partial.write_text("new")
    assert names_in(tmp_path) == ["file", "folder"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from hardware.errors import StorageError
from hardware.storage import whole_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with whole_file(Path(sys.argv[1])) as partial:
        partial.write_bytes(bytes(2000))
except StorageError as error:
    sys.exit(f"said: {error}")
"""


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "K.json"
    path.write_text("old")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stderr.startswith("said: cannot write"), done.stderr
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["K.json"]
