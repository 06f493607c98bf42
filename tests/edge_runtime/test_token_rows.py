"""Token embeddings out of GGUF files: bit for bit what the reference reader gives; no number of an answer changes."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from edge_runtime.decoder import Decoder
from edge_runtime.gguf_header import find_tensor
from edge_runtime.records import DecoderSegment, EmbedSegment, TokenSegment
from edge_runtime.token_rows import EMBEDDING, TokenRows
from tests.seeded_gguf import STOP, error_of_scale, seeded_gguf

ROWS, WIDTH = 40, 512
WRITTEN = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0]


def stored(kind: Kind) -> np.ndarray:
    """A matrix as a file holds it; types that the library only reads are made of random blocks."""
    chance = np.random.default_rng(kind)
    if kind in WRITTEN:
        return gguf.quants.quantize(chance.standard_normal((ROWS, WIDTH)).astype(np.float32), kind)
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = chance.integers(0, 256, (ROWS, WIDTH // values, size), dtype=np.uint8)
    blocks[..., -2:] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)  # Q6_K keeps its scale there
    return blocks.reshape(ROWS, -1)


def written(path: Path, kind: Kind, *, alignment: int | None = None) -> Path:
    writer = gguf.GGUFWriter(path, "qwen2")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_token_list([f"t{number}" for number in range(ROWS)])
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(7, np.float32))
    data = stored(kind)
    writer.add_tensor(EMBEDDING, data, raw_dtype=kind)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [*WRITTEN, Kind.Q6_K])
def test_rows_are_those_of_the_reference_reader(tmp_path: Path, kind: Kind) -> None:
    path = written(tmp_path / "decoder.gguf", kind)
    rows = TokenRows.open(path)
    assert rows is not None
    ids = np.array([3, 0, ROWS - 1, 3], np.int32)
    expected = gguf.quants.dequantize(stored(kind), kind)[ids]
    found = rows.of(ids)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("alignment", [None, 64, 4096])
def test_a_tensor_is_found_where_the_reference_reader_finds_it(tmp_path: Path, alignment: int | None) -> None:
    path = written(tmp_path / "decoder.gguf", Kind.Q8_0, alignment=alignment)
    expected = next(tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == EMBEDDING)
    found = find_tensor(path, EMBEDDING)
    assert found is not None
    assert (found.kind, found.shape, found.start) == ("Q8_0", (ROWS, WIDTH), int(expected.data_offset))
    assert find_tensor(path, "output.weight") is None


def test_what_cannot_be_read_is_left_to_llama_cpp(tmp_path: Path) -> None:
    assert TokenRows.open(written(tmp_path / "decoder.gguf", Kind.Q4_K)) is None
    cut = written(tmp_path / "cut.gguf", Kind.F32)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size - 64)
    assert TokenRows.open(cut) is None


def test_one_batch_says_what_five_said(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    ids = [TokenSegment(chance.integers(0, 400, n).astype(np.int32)) for n in (9, 3, 14)]
    seen = [EmbedSegment(chance.normal(size=(n, 64)).astype(np.float32)) for n in (40, 21)]
    prompt: list[DecoderSegment] = [ids[0], seen[0], ids[1], seen[1], ids[2]]
    path = seeded_gguf(tmp_path)
    with Decoder.open(path, stop_ids=[STOP], kv_type="f32", use_extra_bufts=True, n_threads=1) as decoder:
        together = decoder.logits(prompt)
        assert decoder._token_rows is not None
        decoder.joins = False
        assert error_of_scale(together, decoder.logits(prompt)) < 1e-5


def test_the_same_question_again_has_the_same_digits(tmp_path: Path) -> None:
    """Only its text is read again, in the same batch; another question between them changes nothing."""
    chance = np.random.default_rng(0)
    seen = EmbedSegment(chance.normal(size=(40, 64)).astype(np.float32))
    before, *texts = [TokenSegment(chance.integers(0, 400, n).astype(np.int32)) for n in (9, 21, 30)]
    asked: list[list[DecoderSegment]] = [[before, seen, text] for text in texts]
    path = seeded_gguf(tmp_path)
    with Decoder.open(path, stop_ids=[STOP], use_extra_bufts=True, n_threads=1, keeps_prompt=True) as decoder:
        first = decoder.generate(asked[0], max_tokens=8)
        again = decoder.generate(asked[0], max_tokens=8)
        decoder.generate(asked[1], max_tokens=8)
        third = decoder.generate(asked[0], max_tokens=8)
    assert [found.reused_tokens for found in (first, again, third)] == [0, 49, 49]
    assert first.token_ids == again.token_ids == third.token_ids
    assert first.token_probs == again.token_probs == third.token_probs
