"""The decoder stage on a tiny seeded model: positions, contexts, answers, and everything it must refuse."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from tokenizers import Tokenizer

from edge_runtime.decoder import Decoder, _probability
from edge_runtime.errors import BundleInvalid, BundleMissing, InferenceError, InstructionError
from edge_runtime.gguf_header import read_tensor_types
from edge_runtime.native_check import decoder_verdict
from edge_runtime.records import DecoderSegment, EmbedSegment, TokenSegment
from tests.seeded_gguf import STOP, error_of_scale, seeded_gguf, seeded_llm, torch_decoder, torch_embeddings

SAME = 1e-5  # of scale, f32 weights and cache: only the order of sums may differ


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded_gguf(tmp_path_factory.mktemp("decoder"))


def opened(gguf: Path, **settings: object) -> Decoder:
    chosen = {"stop_ids": [STOP], "kv_type": "f32", "use_extra_bufts": True, "n_threads": 1, **settings}
    return Decoder.open(gguf, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def decoder(gguf: Path) -> Iterator[Decoder]:
    with opened(gguf) as made:
        yield made


def tokens(count: int, seed: int = 0) -> TokenSegment:
    return TokenSegment(np.random.default_rng(seed).integers(0, 400, count).astype(np.int32))


def embeds(count: int, seed: int = 0, width: int = 64) -> EmbedSegment:
    return EmbedSegment(np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32))


PROMPT: list[DecoderSegment] = [tokens(9), embeds(40), tokens(3, seed=1), embeds(21, seed=2), tokens(14, seed=3)]
FORCED = list(range(5, 45))


# --- positions and contexts ---------------------------------------------------------------------------


def test_other_settings_are_used_from_the_next_question_on_and_change_no_number(gguf: Path) -> None:
    with opened(gguf) as decoder:
        usual = decoder.logits(PROMPT, FORCED)
        decoder.use(replace(decoder.settings, n_ubatch=16, n_prefill_threads=2))
        assert error_of_scale(decoder.logits(PROMPT, FORCED), usual) <= SAME
        assert (decoder.settings.n_ubatch, decoder.settings.n_threads) == (16, 1)


def test_embeddings_of_tokens_are_the_same_as_the_tokens(gguf: Path, decoder: Decoder) -> None:
    model = torch_decoder(seeded_llm(gguf.parent), decoder.vocab_size)
    ids = tokens(30)
    rows = EmbedSegment(torch_embeddings(model, ids.ids))
    assert error_of_scale(decoder.logits([rows], FORCED), decoder.logits([ids], FORCED)) <= SAME


@pytest.mark.parametrize(("n_batch", "n_ubatch"), [(1, 1), (7, 3), (64, 64), (2048, 512)])
def test_chunks_do_not_show(gguf: Path, decoder: Decoder, n_batch: int, n_ubatch: int) -> None:
    with opened(gguf, n_batch=n_batch, n_ubatch=n_ubatch) as chunked:
        assert error_of_scale(chunked.logits(PROMPT, FORCED), decoder.logits(PROMPT, FORCED)) <= SAME


def test_long_prompts_lose_no_more_to_a_half_precision_cache_than_short_ones(gguf: Path, decoder: Decoder) -> None:
    """4000 rows, as several tiles with depth are; flash attention on a processor is off by 8e-3 of scale here."""
    prompt = [embeds(4000)]
    with opened(gguf, kv_type="f16") as half:
        assert error_of_scale(half.logits(prompt, FORCED), decoder.logits(prompt, FORCED)) < 2e-3


def test_cutting_segments_elsewhere_does_not_show(decoder: Decoder) -> None:
    whole = embeds(50)
    cut: list[DecoderSegment] = [
        EmbedSegment(whole.embeds[:1]),
        EmbedSegment(whole.embeds[1:33]),
        EmbedSegment(whole.embeds[33:]),
    ]
    assert error_of_scale(decoder.logits(cut, FORCED), decoder.logits([whole], FORCED)) <= SAME


def test_position_counts(decoder: Decoder) -> None:
    swapped: list[DecoderSegment] = [*PROMPT[1:], PROMPT[0]]
    assert error_of_scale(decoder.logits(swapped, FORCED), decoder.logits(PROMPT, FORCED)) > 100 * SAME


def test_a_grown_context_answers_like_a_large_one(gguf: Path) -> None:
    long: list[DecoderSegment] = [embeds(700), tokens(5)]
    with opened(gguf) as growing, opened(gguf) as large:
        small_first = growing.generate(PROMPT, max_tokens=8)
        large.generate([tokens(3000)], max_tokens=1)
        assert large.generate(PROMPT, max_tokens=8).token_ids == small_first.token_ids
        assert error_of_scale(growing.logits(long, FORCED), large.logits(long, FORCED)) <= SAME
        assert growing.generate(PROMPT, max_tokens=8).token_ids == small_first.token_ids


def test_one_question_leaves_nothing_for_the_next(decoder: Decoder) -> None:
    before = decoder.logits(PROMPT, FORCED)
    decoder.generate([embeds(60, seed=9)], max_tokens=30)
    assert np.array_equal(decoder.logits(PROMPT, FORCED), before)


def test_views_into_larger_arrays_are_read_right(decoder: Decoder) -> None:
    wide = np.random.default_rng(0).normal(size=(20, 128)).astype(np.float32)
    view = EmbedSegment(wide[::2, ::2])
    copy = EmbedSegment(np.ascontiguousarray(view.embeds))
    assert np.array_equal(decoder.logits([view]), decoder.logits([copy]))


@pytest.mark.parametrize(("kind", "off_by"), [("Q8_0", 0.05), ("Q4_0", 0.5)])
def test_quantized_weights_agree_with_and_without_extra_buffers(
    gguf: Path, decoder: Decoder, tmp_path: Path, kind: str, off_by: float
) -> None:
    quantized = tmp_path / f"{kind}.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    assert llama_cpp.llama_model_quantize(str(gguf).encode(), str(quantized).encode(), ctypes.byref(params)) == 0
    assert kind in read_tensor_types(quantized)
    if not decoder_verdict(quantized).use_extra_bufts:
        pytest.skip("this build of llama.cpp crashes with extra buffers on this processor")
    with opened(quantized) as fast, opened(quantized, use_extra_bufts=False) as plain:
        found, expected = fast.logits(PROMPT, FORCED), plain.logits(PROMPT, FORCED)
    assert error_of_scale(found, expected) < 0.02  # activations are rounded too, in another order
    assert error_of_scale(expected, decoder.logits(PROMPT, FORCED)) < off_by


# --- answers ------------------------------------------------------------------------------------------


def test_answer_is_the_greedy_path_of_the_logits(decoder: Decoder) -> None:
    answer = decoder.generate(PROMPT, max_tokens=24)
    logits = decoder.logits(PROMPT, answer.token_ids).astype(np.float64)
    assert tuple(logits.argmax(axis=1)) == answer.token_ids
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    chosen = probabilities[np.arange(len(answer.token_ids)), answer.token_ids]
    np.testing.assert_allclose(answer.token_probs, chosen, rtol=1e-4)
    assert answer.prompt_tokens == 9 + 40 + 3 + 21 + 14
    assert answer.prefill_ms > 0
    assert answer.decode_ms > 0


@pytest.mark.parametrize("seed", range(6))
def test_text_and_ends_belong_to_the_tokens(gguf: Path, decoder: Decoder, seed: int) -> None:
    answer = decoder.generate([embeds(12, seed=seed)], max_tokens=60)
    reference = Tokenizer.from_file(str(seeded_llm(gguf.parent) / "tokenizer.json"))
    assert answer.text == reference.decode(list(answer.token_ids), skip_special_tokens=True)
    for count, end in enumerate(answer.token_ends, start=1):
        prefix = reference.decode(list(answer.token_ids[:count]), skip_special_tokens=True)
        assert answer.text[:end] == prefix or prefix.endswith("\ufffd")  # a character still in the making
    assert len(answer.token_ends) == len(answer.token_probs) == len(answer.token_ids)
    assert list(answer.token_ends) == sorted(answer.token_ends)
    assert answer.token_ends[-1] == len(answer.text)


def test_stops_at_any_of_its_stop_tokens(gguf: Path, decoder: Decoder) -> None:
    free = decoder.generate(PROMPT, max_tokens=12)
    assert not free.stopped
    stop = free.token_ids[5]
    with opened(gguf, stop_ids=[STOP, stop]) as stopping:
        answer = stopping.generate(PROMPT, max_tokens=12)
    assert answer.stopped
    assert answer.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]


def test_max_tokens_zero_reads_the_prompt_only(decoder: Decoder) -> None:
    answer = decoder.generate(PROMPT, max_tokens=0)
    assert (answer.token_ids, answer.text, answer.stopped) == ((), "", False)


def test_first_logits_without_forced_ids(decoder: Decoder) -> None:
    first = decoder.logits(PROMPT)
    assert first.shape == (1, decoder.vocab_size)
    assert first.dtype == np.float32
    assert error_of_scale(first, decoder.logits(PROMPT, FORCED)[:1]) <= SAME


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [[], [TokenSegment(np.empty(0, np.int32))], [embeds(0), tokens(0)]])
def test_empty_prompt(decoder: Decoder, segments: list[DecoderSegment]) -> None:
    with pytest.raises(InstructionError, match="empty"):
        decoder.generate(segments, max_tokens=4)


def test_empty_segments_between_others_are_skipped(decoder: Decoder) -> None:
    spread: list[DecoderSegment] = [embeds(0), PROMPT[0], tokens(0), *PROMPT[1:], embeds(0)]
    assert np.array_equal(decoder.logits(spread), decoder.logits(PROMPT))


def test_too_long_a_prompt_is_refused_and_a_fitting_one_ends_at_the_limit(gguf: Path) -> None:
    with opened(gguf, n_batch=2048) as decoder:
        limit = decoder.max_context
        with pytest.raises(InstructionError, match=rf"takes {limit} tokens .* allows {limit}"):
            decoder.generate([tokens(10), embeds(limit - 10)], max_tokens=1)


def test_answer_ends_where_the_context_does(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "max_context", 90)  # the model's own limit takes seconds to fill
    answer = decoder.generate(PROMPT, max_tokens=50)
    assert (len(answer.token_ids), answer.stopped) == (90 - answer.prompt_tokens, False)
    with pytest.raises(InstructionError, match="allows 90"):
        decoder.generate([tokens(90)], max_tokens=1)


BAD_SEGMENTS: dict[str, DecoderSegment] = {
    "narrow": embeds(4, width=32),
    "double precision": EmbedSegment(np.zeros((2, 64))),  # type: ignore[arg-type]
    "one row as vector": EmbedSegment(np.zeros(64, np.float32)),
    "negative id": TokenSegment(np.array([3, -1], np.int32)),
    "id beyond the vocabulary": TokenSegment(np.array([100_000], np.int32)),
    "wide ids": TokenSegment(np.array([3], np.int64)),
    "ids as column": TokenSegment(np.array([[3]], np.int32)),
}


@pytest.mark.parametrize("segment", BAD_SEGMENTS.values(), ids=list(BAD_SEGMENTS))
def test_bad_segments_never_reach_native_code(decoder: Decoder, segment: DecoderSegment) -> None:
    with pytest.raises(InferenceError):
        decoder.generate([tokens(3), segment], max_tokens=4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_an_error_not_an_answer(decoder: Decoder, value: float) -> None:
    broken = embeds(5)
    broken.embeds[2, 3] = value
    with pytest.raises(InferenceError, match="not finite"):
        decoder.generate([broken], max_tokens=4)
    assert np.isfinite(decoder.logits(PROMPT)).all()


def test_forced_id_out_of_range(decoder: Decoder) -> None:
    with pytest.raises(InferenceError, match="Token ids"):
        decoder.logits(PROMPT, [3, 100_000, 4])


@pytest.mark.parametrize("stop", ["<none>", 100_000, -1])
def test_unknown_stop_token(gguf: Path, stop: str | int) -> None:
    with pytest.raises(BundleInvalid, match="vocabulary"):
        opened(gguf, stop_ids=[stop])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BundleMissing, match="no decoder"):
        opened(tmp_path / "none.gguf")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.9999])
def test_truncated_file(gguf: Path, tmp_path: Path, share: float) -> None:
    whole = gguf.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleInvalid, match=r"cut\.gguf"):
        opened(cut)


@pytest.mark.parametrize("content", [b"garbage" * 99, b"GGUF" + b"\xff" * 400, b"GGUF\x03\0\0\0" + b"\0" * 64])
def test_garbage_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(BundleInvalid, match="cannot load"):
        opened(path)


def test_close_twice(gguf: Path) -> None:
    decoder = opened(gguf)
    decoder.generate(PROMPT, max_tokens=2)
    decoder.close()
    assert decoder._sequence is None
    decoder.close()


# --- the process around it ---------------------------------------------------------------------------------


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_importing_the_stage_loads_no_native_library() -> None:
    done = run_python("import sys, edge_runtime.decoder; sys.exit('llama_cpp' in sys.modules)")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is Linux's OpenMP")
@pytest.mark.parametrize(
    ("said", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")]
)
def test_waiting_threads_soon_give_their_processor_away(said: dict[str, str], spins: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**kept, **said, "OMP_DISPLAY_ENV": "verbose"}  # libgomp then says what it has understood
    code = "from edge_runtime.llama_library import library; library()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


def test_native_log_stays_off_stderr_and_exit_is_clean(gguf: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from edge_runtime.decoder import Decoder, _probability
from edge_runtime.records import TokenSegment
decoder = Decoder.open(Path(sys.argv[1]), stop_ids=["<|im_end|>"], use_extra_bufts=True)
decoder.generate([TokenSegment(np.arange(9, dtype=np.int32))], max_tokens=2)
print("left open on purpose")
"""
    done = run_python(code, str(gguf))
    assert (done.returncode, done.stdout, done.stderr) == (0, "left open on purpose\n", "")


def test_a_hopeless_token_has_no_probability_and_no_warning() -> None:
    logits = np.array([0.0, 900.0, 899.0], np.float32)
    assert _probability(logits, 0) == 0.0
    assert _probability(logits, 1) == pytest.approx(1 / (1 + np.exp(-1)))
