"""Tokens read ahead: the same answer in fewer steps, whatever the draft is worth."""

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge_runtime.bundle import DECODER, default_bundle, open_bundle
from edge_runtime.decoder import Decoder
from edge_runtime.decoder_draft import LONGEST
from edge_runtime.decoder_sequence import DecoderSequence
from edge_runtime.errors import InferenceError
from edge_runtime.grammar import points_grammar
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import EmbedSegment, Generation, TokenSegment, View
from hardware.camera.open import open_camera, shipped_clip

# llama.cpp multiplies one row and several rows by different kernels, which round a Q8_0 product differently.
KERNELS = 0.06

Drafts = Callable[[str, int], list[int]]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """nano's: it has learnt to write points, so a draft is often right."""
    bundle = open_bundle(default_bundle())
    with Decoder.open(
        bundle.file(DECODER), stop_ids=bundle.manifest.tokens.stop, use_extra_bufts=False, kv_type="f32", n_threads=1
    ) as made:
        yield made


def answered(decoder: Decoder, seed: int, *, grammar: str | None = None, max_tokens: int = 40) -> Generation:
    """What it says about a question and pictures that are noise."""
    rng = np.random.default_rng(seed)
    asked = TokenSegment(decoder.tokenize("Point to the red mug. [("))
    noise = EmbedSegment(rng.normal(size=(24, decoder.width)).astype(np.float32))
    return decoder.generate([noise, asked], max_tokens=max_tokens, grammar=grammar)


def drafting(monkeypatch: pytest.MonkeyPatch, decoder: Decoder, drafts: Drafts) -> None:
    monkeypatch.setattr(decoder._drafts, "after", drafts)


def none(_: str, __: int) -> list[int]:
    return []


def always_wrong(_: str, most: int) -> list[int]:
    return [7, 7, 7][:most]


def half_right(text: str, most: int) -> list[int]:
    """Zero is a digit that comes up, and that no template drafts."""
    return [13, 13][:most] if text.endswith("0") else [15][:most]


@pytest.mark.parametrize("drafts", [None, always_wrong, half_right], ids=["template", "wrong", "half right"])
@pytest.mark.parametrize("grammar", [None, points_grammar()], ids=["free", "grammar"])
def test_the_answer_is_that_of_single_steps(
    monkeypatch: pytest.MonkeyPatch, decoder: Decoder, drafts: Drafts | None, grammar: str | None
) -> None:
    for seed in range(4):
        with monkeypatch.context() as patched:
            drafting(patched, decoder, none)
            single = answered(decoder, seed, grammar=grammar)
        with monkeypatch.context() as patched:
            if drafts is not None:
                drafting(patched, decoder, drafts)
            ahead = answered(decoder, seed, grammar=grammar)
        assert ahead.token_ids == single.token_ids
        assert (ahead.text, ahead.token_ends, ahead.stopped) == (single.text, single.token_ends, single.stopped)
        np.testing.assert_allclose(ahead.token_probs, single.token_probs, rtol=KERNELS, atol=1e-3)


def test_a_point_takes_seven_readings_of_the_weights_not_thirteen(monkeypatch: pytest.MonkeyPatch) -> None:
    readings: list[int] = []
    original = DecoderSequence.feed_for_logits

    def counted(sequence: DecoderSequence, ids: np.ndarray) -> np.ndarray:
        readings.append(len(ids))
        return original(sequence, ids)

    monkeypatch.setattr(DecoderSequence, "feed_for_logits", counted)
    with open_camera(str(shipped_clip())) as camera, Pipeline.open(default_bundle(), n_threads=1) as pipeline:
        answer = pipeline.refer([View(rgb=camera.read().rgb)], "point to the cup")
    assert re.fullmatch(r"\[\(0\.\d{3}, 0\.\d{3}\)\]", answer.answer)
    assert len(readings) <= 7
    assert sum(readings) >= answer.generated_tokens - 2


def test_a_draft_reads_like_a_point(decoder: Decoder) -> None:
    def after(text: str, most: int = LONGEST) -> str:
        return b"".join(map(decoder.piece, decoder._drafts.after(text, most))).decode()

    assert after("[(") == after("<answer>[(") == "0."
    assert after("[(0.3") == after("[(0.31") == ""
    assert after("[(0.312") == after("[(0.1, 0.2), (0.312") == ", 0."
    assert after("[(0.312, 0.654") == ")]"
    assert after("[(0.312", most=2) == ", "
    assert after("Step1: [Position] [mug]") == after("the mug is red.") == after("") == ""


def test_no_draft_reaches_beyond_the_limit_of_the_context(monkeypatch: pytest.MonkeyPatch, decoder: Decoder) -> None:
    """Rows that were only tried must fit, too."""
    monkeypatch.setattr(decoder, "max_context", 24 + len(decoder.tokenize("Point to the red mug. [(")) + 5)
    answer = answered(decoder, 0)
    assert len(answer.token_ids) <= 5


def test_broken_logits_in_a_draft_are_an_error(monkeypatch: pytest.MonkeyPatch, decoder: Decoder) -> None:
    with pytest.raises(InferenceError, match="not finite"):
        decoder.generate([EmbedSegment(np.full((3, decoder.width), np.nan, np.float32))], max_tokens=4)
