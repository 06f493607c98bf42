"""The graph that reads prompts, held against llama.cpp: the same keys and values, and the same answers after them."""

import ctypes
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import decoder_sequence
from edge_runtime.bundle import DECODER, PREFILL, Bundle, open_bundle
from edge_runtime.check import check_bundle
from edge_runtime.decoder import Decoder
from edge_runtime.encoders import Graph
from edge_runtime.errors import BundleInvalid, InferenceError
from edge_runtime.kv_state import F16, sequence_state
from edge_runtime.prefill import Prefill
from edge_runtime.providers import CPU, Provider
from edge_runtime.records import F32, DecoderSegment, EmbedSegment, TokenSegment
from quantize.assemble import quantize_bundle
from quantize.prefill_graph import write_prefill
from quantize.recipes import Recipe
from tests.quantize.conftest import WIDE, exported_bundle

ROWS = 120
MakeReader = Callable[..., Prefill]


HEADS = [
    "two heads a key",
    pytest.param("one key for all", marks=pytest.mark.slow),
    pytest.param("a key a head", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=HEADS)
def decoder_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, parent: Bundle) -> Path:
    """An F16 decoder."""
    if request.param == "two heads a key":
        return parent.file(DECODER)
    shape = dataclasses.replace(WIDE, kv_heads=1 if request.param == "one key for all" else 4, layers=3)
    return exported_bundle(tmp_path_factory.mktemp("heads"), shape).file(DECODER)


@pytest.fixture
def read_by(tmp_path: Path) -> MakeReader:
    """A graph made of a decoder."""

    def make(decoder: Path, *, exact: bool) -> Prefill:
        write_prefill(decoder, tmp_path / PREFILL, exact=exact)
        return Prefill(Graph(tmp_path / PREFILL, [Provider(CPU)], 1))

    return make


@pytest.fixture
def opened() -> Iterator[Callable[..., Decoder]]:
    """Opens decoders and closes them."""
    decoders: list[Decoder] = []

    def of(path: Path, **options: object) -> Decoder:
        decoders.append(Decoder.open(path, stop_ids=(), use_extra_bufts=False, n_threads=1, **options))  # type: ignore[arg-type]
        return decoders[-1]

    yield of
    for decoder in decoders:
        decoder.close()


def embeddings(decoder: Decoder, rows: int = ROWS, *, seed: int = 0) -> F32:
    width = decoder.width
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def prompt_of(decoder: Decoder) -> list[DecoderSegment]:
    """Text, a picture, text."""
    words = np.arange(5, 25, dtype=np.int32)
    return [TokenSegment(words), EmbedSegment(embeddings(decoder)), TokenSegment(words[::-1].copy())]


def state_of(decoder: Decoder) -> bytes:
    """What llama.cpp saves of the sequence."""
    sequence = decoder._sequence
    assert sequence is not None
    native = sequence._library.functions
    size = native.llama_state_seq_get_size(sequence._context, 0)
    found = (ctypes.c_uint8 * size)()
    native.llama_state_seq_get_data(sequence._context, found, size, 0)
    return bytes(found)


@pytest.mark.parametrize("flash", [False, True], ids=["values by channel", "values by row"])
def test_state_is_what_llama_cpp_saves_itself(
    decoder_file: Path, opened: Callable[..., Decoder], monkeypatch: pytest.MonkeyPatch, flash: bool
) -> None:
    """Cut into keys and values and put together again, it has not changed by a byte."""
    if flash:
        monkeypatch.setattr(
            decoder_sequence, "_flash_attention", lambda native, _: native.LLAMA_FLASH_ATTN_TYPE_ENABLED
        )
    decoder = opened(decoder_file)
    decoder.logits([EmbedSegment(embeddings(decoder))])
    saved = state_of(decoder)
    assert bytes(sequence_state(saved, kept_in(saved), values_turned=not flash)) == saved


def kept_in(state: bytes) -> F16:
    """Keys and values out of a saved state, read as the module's table says."""
    rows = int.from_bytes(state[12:16], "little")
    at = 16 + 12 * rows
    turned, layers = (int.from_bytes(state[i : i + 4], "little") for i in (at, at + 4))
    width = int.from_bytes(state[at + 12 : at + 20], "little") // 2
    half = np.frombuffer(state[at + 8 :], np.uint8).reshape(2, layers, -1)[:, :, 12:]
    keys, values = np.ascontiguousarray(half).view(np.float16)
    values = values.reshape(layers, width, rows).swapaxes(1, 2) if turned else values.reshape(layers, rows, width)
    stored: F16 = np.stack([keys.reshape(layers, rows, width), values], axis=1)
    return stored.reshape(2 * layers, rows, width)


def test_exact_graph_computes_what_llama_cpp_does(
    decoder_file: Path, read_by: MakeReader, opened: Callable[..., Decoder]
) -> None:
    """Half precision in llama.cpp's products and cache: 2e-3 of the largest value."""
    decoder = opened(decoder_file)
    rows = embeddings(decoder)
    decoder.logits([EmbedSegment(rows)])
    expected = kept_in(state_of(decoder)).astype(np.float32)
    found = read_by(decoder_file, exact=True).keys_values(rows).astype(np.float32)
    assert found.shape == expected.shape
    assert errors_of(found, expected).max() < 2e-3


def test_int8_graph_is_near(decoder_file: Path, read_by: MakeReader) -> None:
    width = WIDE.width
    rows = np.random.default_rng(1).standard_normal((ROWS, width)).astype(np.float32)
    exact = read_by(decoder_file, exact=True).keys_values(rows).astype(np.float32)
    found = read_by(decoder_file, exact=False).keys_values(rows).astype(np.float32)
    first, *_, last = errors_of(found, exact)
    assert 1e-4 < first < 0.02  # one product
    assert last < 0.1  # behind two or three layers


def errors_of(found: F32, expected: F32) -> F32:
    """Largest error of each array over its largest value."""
    largest: F32 = np.abs(found - expected).max(axis=(1, 2)) / np.abs(expected).max(axis=(1, 2))
    return largest


def test_a_token_with_huge_activations_costs_the_others_nothing(parent: Bundle, read_by: MakeReader) -> None:
    """Each row has a scale of its own. The first layer's keys depend on nothing else."""
    rows = np.random.default_rng(2).standard_normal((ROWS, WIDE.width)).astype(np.float32)
    spiked = rows.copy()
    spiked[-1, 3] = 1000.0
    reader = read_by(parent.file(DECODER), exact=False)
    assert np.array_equal(reader.keys_values(rows)[0, :-1], reader.keys_values(spiked)[0, :-1])


@pytest.mark.parametrize("keeps_prompt", [False, True])
def test_answers_after_a_prompt_read_by_the_exact_graph(
    decoder_file: Path, read_by: MakeReader, opened: Callable[..., Decoder], keeps_prompt: bool
) -> None:
    reader = read_by(decoder_file, exact=True)
    plain, helped = opened(decoder_file), opened(decoder_file, reader=reader, keeps_prompt=keeps_prompt)
    prompt, forced = prompt_of(plain), [7, 8, 9, 10]
    expected, found = plain.logits(prompt, forced), helped.logits(prompt, forced)
    assert np.abs(found - expected).max() < 5e-3 * np.abs(expected).max()
    assert helped.generate(prompt, max_tokens=6).token_ids == plain.generate(prompt, max_tokens=6).token_ids


def test_same_question_about_same_picture_has_same_digits(
    parent: Bundle, read_by: MakeReader, opened: Callable[..., Decoder]
) -> None:
    """Whether the picture was read now or is still in the cache."""
    reader = read_by(parent.file(DECODER), exact=False)
    decoder = opened(parent.file(DECODER), reader=reader, keeps_prompt=True)
    prompt = prompt_of(decoder)
    first, again = (decoder.generate(prompt, max_tokens=6) for _ in range(2))
    assert (first.reused_tokens, again.reused_tokens) == (0, 20 + ROWS)
    assert first.token_probs == again.token_probs


def test_short_prompts_are_llama_cpps(parent: Bundle, read_by: MakeReader, opened: Callable[..., Decoder]) -> None:
    plain = opened(parent.file(DECODER))
    helped = opened(parent.file(DECODER), reader=read_by(parent.file(DECODER), exact=False))
    prompt = [TokenSegment(np.arange(5, 25, dtype=np.int32))]
    assert np.array_equal(plain.logits(prompt), helped.logits(prompt))


def test_keys_that_llama_cpp_refuses_are_left(
    parent: Bundle, read_by: MakeReader, opened: Callable[..., Decoder], caplog: pytest.LogCaptureFixture
) -> None:
    """Of another model: the answer comes all the same, and it is said why it came slower."""

    class OfAnotherModel:
        def pays(self, rows: int) -> bool:
            return rows > 0

        def keys_values(self, rows: F32) -> F16:
            return np.zeros((6, len(rows), 24), np.float16)

    plain = opened(parent.file(DECODER))
    helped = opened(parent.file(DECODER), reader=OfAnotherModel())
    prompt = prompt_of(plain)
    with caplog.at_level(logging.WARNING):
        found = helped.logits(prompt)
    assert np.array_equal(found, plain.logits(prompt))
    assert "prompts are read by llama.cpp from now on" in caplog.text


def test_a_graph_that_fails_leaves_nothing_behind(parent: Bundle, opened: Callable[..., Decoder]) -> None:
    """Asked after another prompt that began alike: nothing of it counts as reused, and the answer is llama.cpp's."""

    class Failing:
        def pays(self, rows: int) -> bool:
            return rows > 100

        def keys_values(self, rows: F32) -> F16:
            raise InferenceError("no memory")

    plain, helped = (opened(parent.file(DECODER), keeps_prompt=True, reader=r) for r in (None, Failing()))
    prompt = prompt_of(plain)
    helped.generate([prompt[0]], max_tokens=2)
    found, expected = helped.generate(prompt, max_tokens=4), plain.generate(prompt, max_tokens=4)
    assert found.reused_tokens == 0
    assert found.token_probs == expected.token_probs


FAST = Recipe("fast", "", "int8-dynamic", "Q4_0", prefill=True)


def test_a_bundle_with_the_graph(parent: Bundle, tmp_path: Path) -> None:
    """It passes `check` on the robot's path, holds both copies, and is the same each time."""
    made = [quantize_bundle(parent.path, tmp_path / name, FAST).bundle for name in ("one", "two")]
    files = [{name: entry.sha256 for name, entry in bundle.manifest.files.items()} for bundle in made]
    assert {PREFILL, f"{PREFILL}.data"} <= files[0].keys()
    assert files[0] == files[1]
    report = check_bundle(made[0].path)
    assert report.ok, report
    assert report.providers[PREFILL] == CPU


def test_a_graph_of_another_model_is_refused(parent: Bundle, tmp_path: Path) -> None:
    """Before native code reads it."""
    shape = dataclasses.replace(WIDE, layers=3)
    other = exported_bundle(tmp_path / "other", shape).file(DECODER)
    bundle = quantize_bundle(parent.path, tmp_path / "bundle", FAST).bundle
    write_prefill(other, bundle.path / PREFILL)
    with pytest.raises(BundleInvalid, match=r"the manifest needs \[rows, 256\] and \[4, rows"):
        _reopened(bundle)


def _reopened(bundle: Bundle) -> Bundle:
    """After its manifest was made to name the files as they are now."""
    from edge_runtime.bundle import BundleWriter

    with BundleWriter(bundle.path.with_name("again")) as writer:
        for name in bundle.manifest.files:
            (writer.path / name).write_bytes((bundle.path / name).read_bytes())
        return open_bundle(writer.finish(bundle.manifest).path)
