"""A bundle is complete or absent: every way to damage one has a named error, and writing never loses the old one."""

import dataclasses
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
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
from edge_runtime.gguf_header import read_gguf_header
from edge_runtime.manifest import context_limit, read_manifest
from edge_runtime.onnx_header import read_onnx_header


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
    monkeypatch.setattr(bundles, "file_sha256", lambda path: pytest.fail(f"hashed {path} again"))
    open_bundle(copy)


def field(number: int, payload: bytes) -> bytes:
    """A protobuf field of bytes."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)

    return varint(number << 3 | 2) + varint(len(payload)) + payload


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


OUTSIDE = field(8, b"w") + field(13, field(1, b"location") + field(2, b"../../etc/passwd"))
HIDDEN = field(13, field(1, b"doc") + field(1, b"location") + field(2, b"rgb.data") + field(2, b"../../etc/passwd"))

# Where a tensor may hide: in a graph, and beside it in the model. Numbers as in onnx.proto3.
IN_GRAPH = {
    "initializer": field(5, OUTSIDE),
    "key and value given twice": field(5, HIDDEN),
    "sparse initializer, values": field(15, field(1, OUTSIDE)),
    "sparse initializer, indices": field(15, field(2, OUTSIDE)),
    "attribute": field(1, field(5, field(5, OUTSIDE))),
    "attribute, list of tensors": field(1, field(5, field(10, OUTSIDE))),
    "attribute, sparse tensor": field(1, field(5, field(22, field(1, OUTSIDE)))),
    "attribute, list of sparse tensors": field(1, field(5, field(23, field(2, OUTSIDE)))),
    "subgraph": field(1, field(5, field(6, field(5, OUTSIDE)))),
    "list of subgraphs": field(1, field(5, field(11, field(5, OUTSIDE)))),
}
IN_MODEL = {
    "function": field(25, field(7, field(5, field(5, OUTSIDE)))),
    "default of a function's attribute": field(25, field(11, field(5, OUTSIDE))),
}


@pytest.mark.parametrize("place", [*IN_GRAPH, *IN_MODEL])
def test_every_place_a_tensor_may_hide_is_looked_at(tmp_path: Path, place: str) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(field(7, field(2, b"g") + IN_GRAPH.get(place, b"")) + IN_MODEL.get(place, b""))
    parsed = onnx.ModelProto.FromString(path.read_bytes())  # protobuf's own reading sees the path too
    assert "../../etc/passwd" in str(parsed)
    assert read_onnx_header(path).external_files == {"../../etc/passwd"}


def test_shapes_are_read_as_protobuf_reads_them(tmp_path: Path) -> None:
    """A size given twice counts as the last, a shape given in two pieces as both together."""
    one = field(1, field(2, field(1, field(2, b"tiles") + b"\x08\x03")))
    two = field(1, field(2, field(1, b"\x08\x05\x08\x07")))
    value = field(1, b"x") + field(2, one) + field(2, two)
    path = tmp_path / "x.onnx"
    path.write_bytes(field(7, field(11, value)))
    (parsed,) = onnx.ModelProto.FromString(path.read_bytes()).graph.input
    expected = tuple(dim.dim_value for dim in parsed.type.tensor_type.shape.dim)
    assert read_onnx_header(path).inputs == {"x": expected}
    assert expected == (3, 7)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(3000):
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "x.onnx").write_bytes(field(7, graph))
    with pytest.raises(BundleInvalid, match="not an ONNX model"):
        read_onnx_header(tmp_path / "x.onnx")


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    "damage",
    [
        entry(b"qwen2.block_count", 6, struct.pack("<f", float("inf"))),
        entry(b"qwen2.block_count", 6, struct.pack("<f", float("nan"))),
        entry(b"qwen2.block_count", 9, struct.pack("<IQ", 10, (1 << 61) - 1)),
        entry(b"qwen2.block_count", 9, struct.pack("<IQ", 0, (1 << 63) - 1)),
        entry(b"qwen2.block_count", 9, struct.pack("<IQ", 9, 1)),
        entry(b"qwen2.block_count", 8, struct.pack("<Q", 1) + b"x"),
    ],
    ids=["infinite", "no number", "array larger than any file", "array past the last byte", "array of arrays", "text"],
)
def test_numbers_of_a_gguf_that_no_decoder_has_are_refused(tmp_path: Path, damage: bytes) -> None:
    keys = [
        entry(b"general.architecture", 8, struct.pack("<Q", 5) + b"qwen2"),
        damage,
        entry(b"qwen2.embedding_length", 4, struct.pack("<I", 8)),
        entry(b"qwen2.context_length", 4, struct.pack("<I", 8)),
        entry(b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 0)),
    ]
    path = tmp_path / "d.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys))
    with pytest.raises(BundleInvalid, match="not a GGUF model"):
        read_gguf_header(path)
    with pytest.raises(BundleInvalid, match="not a GGUF model"):
        read_gguf_header(tmp_path)
    with pytest.raises(BundleInvalid, match="not an ONNX model"):
        read_onnx_header(tmp_path)


CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("image", {"max_tiles": 65}, r"tiles 1\.\.65 is no range"),
    ("image", {"min_tiles": 13}, r"tiles 13\.\.12"),
    ("image", {"s2_scales": [224]}, "only to it"),
    ("image", {"mode": "dynamic_s2"}, "s2_scales belong to"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [0, 224]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [448, 224]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [-448, -224]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 300]}, "rising multiples"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 448], "s2_output_index": 2}, "none of 2 scales"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 448], "s2_output_index": -3}, "none of 2 scales"),
    ("image", {"mode": "dynamic_s2", "s2_scales": [224, 896]}, "takes 16 tiles of 12"),
    ("image", {"rgb": {"tile_px": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}}, "image.rgb: tile_px"),
    ("image", {"depth": {"tile_px": 224, "mean": [0, 0, 0], "std": [1, 0, 1]}}, "image.depth: std"),
    ("image", {"rgb": {"tile_px": 224, "mean": [0, 0, 0], "std": [1, float("nan"), 1]}}, "image.rgb: std"),
    ("image", {"rgb": {"tile_px": 224, "mean": [0, float("inf"), 0], "std": [1, 1, 1]}}, "image.rgb: mean"),
    ("image", {"depth": None}, "both or neither"),
    ("tokens", {"image": "<picture>"}, "'<picture>' is not among"),
    ("tokens", {"depth": "<distance>"}, "'<distance>' is not among"),
    ("tokens", {"stop": []}, "no stop token"),
    ("tokens", {"stop": [0, 100_000]}, "'stop': 100000"),
    ("tokens", {"stop": [-1, 0]}, "'first stop': -1"),
    ("tokens", {"newline": -1}, "'newline': -1"),
    ("tokens", {"special": {"<image>": 100_000, "<depth>": 1}}, "'<image>': 100000"),
    ("dims", {"tokens_per_tile": 0}, "must be 1 or more"),
    ("depth", {"low_percentile": 99.0, "high_percentile": 1.0}, "percentiles 99.0 and 1.0"),
    ("depth", {"low_percentile": float("nan")}, "percentiles nan"),
]


@pytest.mark.parametrize(("part", "values", "words"), CONTRADICTIONS, ids=[f"{p} {v}" for p, v, _ in CONTRADICTIONS])
def test_values_that_cannot_be_are_refused_before_they_are_used(part: str, values: dict[str, Any], words: str) -> None:
    data = json.loads((shipped_bundle() / "manifest.json").read_text())
    data["image"]["mode"] = "dynamic"
    assert read_manifest(data)
    data[part].update(values)
    with pytest.raises(BundleInvalid, match=words):
        read_manifest(data)


def test_a_manifest_of_two_scales_is_read() -> None:
    data = json.loads((shipped_bundle() / "manifest.json").read_text())
    data["image"].update({"mode": "dynamic_s2", "s2_scales": [224, 448, 672], "s2_output_index": -3})
    assert read_manifest(data).image.s2_scales == (224, 448, 672)


@pytest.mark.parametrize(
    ("tokenizer", "positions", "tokens"), [(16384, 32768, 16384), (1e30, 32768, 32768), (None, 512, 512), (99, 8, 8)]
)
def test_the_context_is_the_smaller_of_what_both_can(tokenizer: float | None, positions: int, tokens: int) -> None:
    assert context_limit(tokenizer, positions) == tokens


# --- which bundle ------------------------------------------------------------------------------------


def test_the_environment_names_the_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROBOREFER_BUNDLE", str(tmp_path))
    assert default_bundle() == tmp_path


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
