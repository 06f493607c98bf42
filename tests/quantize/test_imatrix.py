"""Importance matrices as files: written, read back, read in the older form, refused when damaged."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from edge_runtime.errors import DataError
from quantize.imatrix import ChannelSums, Imatrix, read_imatrix, write_imatrix


def made() -> Imatrix:
    squares = np.arange(1.0, 65.0)
    return Imatrix(
        {"blk.0.ffn_up.weight": ChannelSums(squares, 16.0), "blk.1.ffn_up.weight": ChannelSums(squares * 2, 16.0)},
        datasets=("sim bench",),
        chunks=4,
        chunk_rows=4,
    )


def legacy(name: bytes = b"blk.0.ffn_up.weight", values: int = 64) -> bytes:
    data = np.arange(values, dtype="<f4").tobytes()
    tail = struct.pack("<ii", 7, 3) + b"abc"
    return struct.pack("<i", 1) + struct.pack("<i", len(name)) + name + struct.pack("<ii", 2, values) + data + tail


def test_written_and_read_back(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "i.gguf", made())
    found = read_imatrix(tmp_path / "i.gguf")
    assert (found.datasets, found.chunks, found.chunk_rows) == (("sim bench",), 4, 4)
    for name, mean in made().means().items():
        np.testing.assert_allclose(found.means()[name], mean, rtol=1e-6)


def test_the_file_has_the_layout_that_llama_cpp_writes(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "i.gguf", made())
    reader = GGUFReader(tmp_path / "i.gguf")
    fields = {name: reader.get_field(name) for name in ("general.type", "imatrix.chunk_count", "imatrix.datasets")}
    assert {name: field.contents() for name, field in fields.items() if field} == {
        "general.type": "imatrix", "imatrix.chunk_count": 4, "imatrix.datasets": ["sim bench"],
    }  # fmt: skip
    assert "general.architecture" not in reader.fields
    assert [(t.name, list(t.shape), t.tensor_type.name) for t in reader.tensors][:2] == [
        ("blk.0.ffn_up.weight.in_sum2", [64], "F32"), ("blk.0.ffn_up.weight.counts", [1], "F32"),
    ]  # fmt: skip


def test_the_older_binary_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "i.dat").write_bytes(legacy())
    found = read_imatrix(tmp_path / "i.dat")
    assert (found.datasets, found.chunks) == (("abc",), 7)
    np.testing.assert_allclose(found.means()["blk.0.ffn_up.weight"], np.arange(64) / 2)


def test_a_weight_that_was_never_used_counts_evenly() -> None:
    np.testing.assert_array_equal(ChannelSums(np.zeros(4), 0.0).mean, np.ones(4, np.float32))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish that is no matrix at all",
        legacy()[:200],
        legacy(values=0),
        struct.pack("<ii", 1, 1 << 20) + b"x" * 64,
        b"GGUF" + b"\0" * 60,
    ],
    ids=["empty", "rubbish", "cut off", "no values", "endless name", "no gguf"],
)
def test_damage_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "i.dat").write_bytes(content)
    with pytest.raises(DataError, match=r"i\.dat is no importance matrix"):
        read_imatrix(tmp_path / "i.dat")


def test_sums_that_no_square_can_give_are_refused(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "i.gguf", Imatrix({"w": ChannelSums(np.array([1.0, -1.0]), 4.0)}))
    with pytest.raises(DataError, match="'w' holds negative"):
        read_imatrix(tmp_path / "i.gguf")
