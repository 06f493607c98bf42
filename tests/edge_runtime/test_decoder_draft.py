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
from edge_runtime.records import EmbedSegment, Generation, View
from hardware.camera.open import open_camera, shipped_clip
from tests.seeded_gguf import STOP, seeded_gguf

Drafts = Callable[[str, int], list[int]]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    """A seeded model in f32: one row or several, llama.cpp rounds alike. (Of Q8_0 it does not, and ties may fall.)"""
    path = seeded_gguf(tmp_path_factory.mktemp("draft"))
    with Decoder.open(path, stop_ids=[STOP], use_extra_bufts=True, kv_type="f32", n_threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """nano's: it has learnt to write points."""
    bundle = open_bundle(default_bundle())
    with Decoder.open(
        bundle.file(DECODER), stop_ids=bundle.manifest.tokens.stop, use_extra_bufts=False, kv_type="f32", n_threads=1
    ) as made:
        yield made


def answered(decoder: Decoder, seed: int, *, grammar: str | None = None, max_tokens: int = 40) -> Generation:
    """What it says about noise."""
    noise = EmbedSegment(np.random.default_rng(seed).normal(size=(24, decoder.width)).astype(np.float32))
    return decoder.generate([noise], max_tokens=max_tokens, grammar=grammar)


def drafts_of(known: Generation, wrong_from: int) -> Drafts:
    """What a clairvoyant would draft, each draft wrong from its n-th token on."""

    def after(text: str, most: int) -> list[int]:
        written = sum(end <= len(text) for end in known.token_ends)
        right = [t for t in known.token_ids[written : written + wrong_from] if t != known.token_ids[-1]]
        return [*right, 7, 7][:most]

    return after


@pytest.mark.parametrize("wrong_from", [0, 1, 2, 5])
@pytest.mark.parametrize("grammar", [None, points_grammar()], ids=["free", "grammar"])
def test_the_answer_is_that_of_single_steps(
    monkeypatch: pytest.MonkeyPatch, exact: Decoder, wrong_from: int, grammar: str | None
) -> None:
    for seed in range(4):
        monkeypatch.setattr(exact._drafts, "after", lambda *_: [])
        single = answered(exact, seed, grammar=grammar)
        monkeypatch.setattr(exact._drafts, "after", drafts_of(single, wrong_from))
        ahead = answered(exact, seed, grammar=grammar)
        assert ahead.token_ids == single.token_ids
        assert (ahead.text, ahead.token_ends, ahead.stopped) == (single.text, single.token_ends, single.stopped)
        np.testing.assert_allclose(ahead.token_probs, single.token_probs, rtol=1e-4)


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


def test_no_draft_reaches_beyond_the_limit_of_the_context(monkeypatch: pytest.MonkeyPatch, exact: Decoder) -> None:
    """Rows that were only tried must fit, too."""
    known = answered(exact, 0)
    monkeypatch.setattr(exact, "max_context", 24 + 5)
    monkeypatch.setattr(exact._drafts, "after", drafts_of(known, 5))
    assert answered(exact, 0).token_ids == known.token_ids[:5]


def test_broken_logits_are_an_error(exact: Decoder) -> None:
    with pytest.raises(InferenceError, match="not finite"):
        exact.generate([EmbedSegment(np.full((3, exact.width), np.nan, np.float32))], max_tokens=4)
