"""A bundle is complete or absent: every way to damage one has a named error, and writing never loses the old one."""

import dataclasses
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import bundle as bundles
from edge_runtime.bundle import BundleWriter, default_bundle, open_bundle, shipped_bundle
from edge_runtime.errors import (
    BundleInvalid,
    BundleMissing,
    BundleTampered,
    BundleVersion,
    ConfigError,
    StorageError,
)
from edge_runtime.manifest import read_manifest
from tests.edge_runtime.protobuf_bytes import field


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped bundle that may be damaged, with a verification cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(shipped_bundle(), tmp_path / "bundle"))


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def rehash(bundle: Path, name: str) -> None:
    """Make the manifest agree with a changed file, as somebody who tampers on purpose would."""
    entry = {"sha256": bundles.file_sha256(bundle / name), "bytes": (bundle / name).stat().st_size}
    edit_manifest(bundle, lambda m: m["files"].update({name: entry}))


def rewrite(bundle: Path, name: str, content: bytes) -> None:
    (bundle / name).write_bytes(content)
    rehash(bundle, name)


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def remove(path: Path) -> None:
    path.unlink()


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def unreadable(bundle: Path) -> None:
    """A file that can be opened and not read, even by root."""
    remove(bundle / "manifest.json")
    (bundle / "manifest.json").symlink_to("/proc/self/mem")


DAMAGE: list[tuple[str, Callable[[Path], object], type[Exception], str]] = [
    ("no folder", shutil.rmtree, BundleMissing, "no such folder"),
    ("no manifest", lambda b: remove(b / "manifest.json"), BundleMissing, "manifest.json is missing"),
    ("manifest not JSON", lambda b: (b / "manifest.json").write_text("{"), BundleInvalid, "not JSON"),
    ("manifest a folder", lambda b: folder_instead(b / "manifest.json"), BundleInvalid, "no plain file"),
    (
        "manifest a pipe",
        lambda b: pipe_instead(b / "manifest.json"),
        BundleInvalid,
        "plain",
    ),
    ("manifest too deep", lambda b: (b / "manifest.json").write_text("[" * 200_000), BundleInvalid, "not JSON"),
    ("manifest unreadable", unreadable, BundleInvalid, "cannot be read"),
    ("manifest a list", lambda b: (b / "manifest.json").write_text("[]"), BundleInvalid, "must hold an object"),
    ("other version", lambda b: edit_manifest(b, lambda m: m.update(schema_version=99)), BundleVersion, "99"),
    ("missing key", lambda b: edit_manifest(b, lambda m: m.pop("dims")), BundleInvalid, "missing keys"),
    ("unknown key", lambda b: edit_manifest(b, lambda m: m.update(extra=1)), BundleInvalid, "unknown keys"),
    ("wrong type", lambda b: edit_manifest(b, lambda m: m["dims"].update(vocab_size="9")), BundleInvalid, "a int"),
    ("missing file", lambda b: remove(b / "rgb_tower.onnx"), BundleTampered, "rgb_tower.onnx is missing"),
    ("truncated file", lambda b: os.truncate(b / "decoder.gguf", 1000), BundleTampered, "truncated or changed"),
    ("one byte changed", lambda b: flip_byte(b / "rgb_tower.onnx", 5000), BundleTampered, "SHA-256"),
    (
        "path outside",
        lambda b: edit_manifest(b, lambda m: m["files"].update({"../x": {"sha256": "0", "bytes": 1}})),
        BundleInvalid,
        "plain file names",
    ),
    (
        "no decoder named",
        lambda b: edit_manifest(b, lambda m: m["files"].pop("decoder.gguf")),
        BundleInvalid,
        "lacks decoder.gguf",
    ),
    (
        "no projector named",
        lambda b: edit_manifest(b, lambda m: m["files"].pop("depth_projector.onnx")),
        BundleInvalid,
        "depth_projector.onnx",
    ),
    (
        "other width",
        lambda b: edit_manifest(b, lambda m: m["dims"].update(decoder_width=96)),
        BundleInvalid,
        "width",
    ),
    (
        "other tile size",
        lambda b: edit_manifest(b, lambda m: m["image"]["rgb"].update(tile_px=112)),
        BundleInvalid,
        "112",
    ),
    (
        "other vocabulary",
        lambda b: edit_manifest(b, lambda m: m["dims"].update(vocab_size=7)),
        BundleInvalid,
        "vocabulary",
    ),
    (
        "other context",
        lambda b: edit_manifest(b, lambda m: m["dims"].update(context_tokens=99)),
        BundleInvalid,
        "context",
    ),
    (
        "GGUF replaced and rehashed",
        lambda b: rewrite(b, "decoder.gguf", b"GGUF" + b"\0" * 100),
        BundleInvalid,
        "not a GGUF",
    ),
    (
        "ONNX replaced and rehashed",
        lambda b: rewrite(b, "rgb_tower.onnx", b"\x3a\xff\xff"),
        BundleInvalid,
        "not an ONNX",
    ),
]


@pytest.mark.parametrize(("label", "damage", "error", "words"), DAMAGE, ids=[d[0] for d in DAMAGE])
def test_every_damage_has_a_named_error(
    copy: Path, label: str, damage: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    open_bundle(copy)  # good before, and stamped: the damage must be seen despite the stamp
    damage(copy)
    with pytest.raises(error, match=words) as caught:
        open_bundle(copy)
    assert type(caught.value) is error


def test_a_change_that_keeps_size_and_time_is_found_by_a_full_hash(copy: Path) -> None:
    """The stamp trusts inode, size and time; `check` does not."""
    open_bundle(copy)
    target = copy / "rgb_projector.onnx"
    times = target.stat()
    with target.open("r+b") as file:
        file.seek(4000)
        byte = file.read(1)
        file.seek(4000)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    open_bundle(copy)
    with pytest.raises(BundleTampered, match="SHA-256"):
        open_bundle(copy, full_hash=True)


def test_the_stamp_spares_the_second_hashing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_bundle(copy)
    hashed: list[Path] = []
    monkeypatch.setattr(bundles, "file_sha256", hashed.append)
    open_bundle(copy)
    assert hashed == []


def test_an_onnx_file_may_not_point_outside(copy: Path) -> None:
    """External data named in a graph but not in the manifest is refused before ONNX Runtime opens it."""

    entry = field(1, b"location") + field(2, b"../../etc/passwd")
    tensor = field(8, b"w") + field(13, entry)
    path = copy / "rgb_projector.onnx"
    original = path.read_bytes()
    # protobuf messages may be given in pieces that merge: a second graph field would be refused, so the
    # initializer is appended inside the only graph, whose field is the last of the file or found by its tag
    graph_at, graph = _graph_of(original)
    path.write_bytes(original[:graph_at] + field(7, graph + field(5, tensor)))
    rehash(copy, path.name)
    with pytest.raises(BundleInvalid, match=r"points to '\.\./\.\./etc/passwd'"):
        open_bundle(copy)


def _graph_of(data: bytes) -> tuple[int, bytes]:
    at = 0
    while at < len(data):
        start, tag = at, data[at]
        at += 1
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if tag & 7 == 2:
            if tag >> 3 == 7:
                return start, data[at : at + value]
            at += value
    raise AssertionError("no graph")


# --- which bundle ------------------------------------------------------------------------------------


def test_the_environment_names_the_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROBOREFER_BUNDLE", str(tmp_path))
    assert default_bundle() == tmp_path


def test_the_machines_bundle_comes_before_the_shipped_one(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOREFER_BUNDLE", raising=False)
    assert default_bundle() == shipped_bundle()
    monkeypatch.setattr(bundles, "SYSTEM_BUNDLE", copy)
    assert default_bundle() == copy


def test_the_shipped_bundle_opens() -> None:
    opened = open_bundle(shipped_bundle())
    assert opened.manifest == read_manifest(json.loads((opened.path / "manifest.json").read_text()))
    assert opened.bytes == sum(f.stat().st_size for f in opened.path.iterdir() if f.name in opened.manifest.files)
    with pytest.raises(BundleInvalid, match=r"it holds \["):
        opened.file("nothing.onnx")


# --- writing -------------------------------------------------------------------------------------------


def stage(writer: BundleWriter, source: Path) -> None:
    for file in source.iterdir():
        if file.name != "manifest.json":
            shutil.copy(file, writer.path)


def test_a_written_bundle_is_equal_to_its_source(copy: Path, tmp_path: Path) -> None:
    manifest = open_bundle(copy).manifest
    with BundleWriter(tmp_path / "out") as writer:
        stage(writer, copy)
        written = writer.finish(dataclasses.replace(manifest, files={}))
    assert written.manifest == manifest
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_an_error_while_staging_leaves_the_old_bundle_whole(copy: Path) -> None:
    before = open_bundle(copy).manifest
    with pytest.raises(RuntimeError, match="half way"), BundleWriter(copy) as writer:
        (writer.path / "decoder.gguf").write_bytes(b"half")
        raise RuntimeError("half way")
    assert open_bundle(copy, full_hash=True).manifest == before
    assert [p.name for p in copy.parent.iterdir() if "partial" in p.name] == []


def test_what_killed_writers_left_is_removed_after_a_day(copy: Path, tmp_path: Path) -> None:
    day_s = 24 * 3600
    ages_h = {".bundle.partial-old": 30, ".bundle.partial-new": 2, ".bundle.partial-busy": 30, ".other.partial-old": 30}
    for name, age_h in ages_h.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "decoder.gguf").write_text("half")
        for path in (tmp_path / name / "decoder.gguf", tmp_path / name):
            now_s = path.stat().st_mtime
            os.utime(path, (now_s, now_s - age_h * 3600))
    os.utime(tmp_path / ".bundle.partial-busy" / "decoder.gguf")  # written into just now
    assert ages_h[".bundle.partial-old"] * 3600 > day_s > ages_h[".bundle.partial-new"] * 3600
    with BundleWriter(copy):
        pass
    left = {p.name for p in tmp_path.iterdir() if p.name.startswith(".")}
    assert left == set(ages_h) - {".bundle.partial-old"}


def test_an_old_bundle_is_replaced_in_one_move(copy: Path) -> None:
    manifest = open_bundle(copy).manifest
    with BundleWriter(copy) as writer:
        stage(writer, copy)
        writer.finish(dataclasses.replace(manifest, name="newer"))
    assert open_bundle(copy, full_hash=True).manifest.name == "newer"
    assert [p.name for p in copy.parent.iterdir() if p.name.startswith(".")] == []


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="not a bundle"), BundleWriter(tmp_path / "precious"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"), BundleWriter(tmp_path / "file"):
        pass
    assert (tmp_path / "precious/thesis.txt").read_text() == "years"


def test_the_current_folder_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="the current folder"), BundleWriter(Path()):
        pytest.fail("work was begun")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_storage_error(copy: Path, tmp_path: Path) -> None:
    manifest = open_bundle(copy).manifest
    with pytest.raises(StorageError, match="No space left"), BundleWriter(tmp_path / "out") as writer:
        stage(writer, copy)
        (writer.path / "manifest.json").symlink_to("/dev/full")
        writer.finish(manifest)
    assert not (tmp_path / "out").exists()


def test_headers_of_damaged_files_never_crash(copy: Path) -> None:
    """Cut a graph and a decoder at many places: always our error, never anything else."""
    for name in ("rgb_tower.onnx", "decoder.gguf"):
        data = (copy / name).read_bytes()
        for size in [0, 1, 3, 4, 7, 8, 20, 24, 100, 333]:
            (copy / name).write_bytes(data[:size])
            rehash(copy, name)
            with pytest.raises(BundleInvalid):
                open_bundle(copy)
        (copy / name).write_bytes(data)
        rehash(copy, name)
    open_bundle(copy)


def test_a_gguf_with_an_absurd_string_is_refused_at_once(copy: Path) -> None:
    (copy / "decoder.gguf").write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60))
    rehash(copy, "decoder.gguf")
    with pytest.raises(BundleInvalid, match="a string of"):
        open_bundle(copy)
