"""What the answer grammar lets through, and that no model can leave it or ramble inside it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.decoder import Decoder
from edge_runtime.errors import InferenceError
from edge_runtime.grammar import longest_answer_tokens, points_grammar
from edge_runtime.records import EmbedSegment
from export.gguf_decoder import write_gguf
from tests.seeded_gguf import STOP, seeded_gguf, seeded_llm

FEW_POINTS, SHORT_THOUGHT = 3, 40
COORDINATE = r"(?:0\.[0-9]{1,4}|1\.0{1,4})"
POINT = rf"\({COORDINATE}, ?{COORDINATE}\)"
LIST = rf"\[{POINT}(?:, ?{POINT}){{0,{FEW_POINTS - 1}}}\]"
STRICT = re.compile(rf"(?:{LIST}|<think>[^<]{{1,{SHORT_THOUGHT}}}</think>\n{{0,2}}<answer>{LIST}</answer>)")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    gguf = seeded_gguf(tmp_path_factory.mktemp("grammar"))
    with Decoder.open(gguf, stop_ids=[STOP], use_extra_bufts=True, n_threads=1) as made:
        yield made


def allows(decoder: Decoder, grammar: str, text: str) -> bool:
    """Whether a model that wants to write exactly this text, and then stop, is left alone."""
    wanted = [*decoder.tokenize(text).tolist(), decoder.token_id(STOP)]
    with decoder._choice(grammar) as choose:
        for token in wanted:
            logits = np.zeros(decoder.vocab_size, np.float32)
            logits[token] = 9.0
            if choose(logits) != token:
                return False
    return True


FITTING = (
    "[(0.312, 0.654)]",
    "[(0.3,0.6)]",
    "[(0.1234, 1.0000), (1.0, 0.0)]",
    "[(0.1, 0.2),(0.3, 0.4), (0.5, 0.6)]",
    "<think>Step1: [Position] [pen holder]: [(0.139, 0.628)]</think><answer>[(0.341, 0.610)]</answer>",
    "<think>a\nb\tc</think>\n<answer>[(0.341, 0.610)]</answer>",
)
OUTSIDE = (
    "",
    "[]",
    "(0.3, 0.6)",
    "[(0.3, 0.6)",
    "[(0.3, 0.6)] ",
    "[(.3, 0.6)]",
    "[(0., 0.6)]",
    "[(0, 1)]",
    "[(12, 34)]",
    "[(1.2, 0.6)]",
    "[(1.01, 0.6)]",
    "[(2.0, 0.6)]",
    "[(-0.3, 0.6)]",
    "[(0.3, 0.6, 0.9)]",
    "[(0.3)]",
    "[(0.31415, 0.6)]",
    "[( 0.3, 0.6)]",
    "[(0.3,  0.6)]",
    "[(3e-1, 0.6)]",
    "[(0.3, 0.6), ]",
    " [(0.3, 0.6)]",
    "I see [(0.3, 0.6)]",
    "<think></think><answer>[(0.3, 0.6)]</answer>",
    "<think>a</think>[(0.3, 0.6)]",
    "<think>a<b</think><answer>[(0.3, 0.6)]</answer>",
    "<think>a 你 b</think><answer>[(0.3, 0.6)]</answer>",
    "<think>a\x1bb</think><answer>[(0.3, 0.6)]</answer>",
    "<think>a</think><answer>[(0.3, 0.6)]</answer>.",
)


@pytest.mark.parametrize("text", FITTING)
def test_well_formed_answers_pass(decoder: Decoder, text: str) -> None:
    assert allows(decoder, points_grammar(), text)


@pytest.mark.parametrize("text", OUTSIDE)
def test_malformed_answers_do_not(decoder: Decoder, text: str) -> None:
    assert not allows(decoder, points_grammar(), text)


def test_a_nul_inside_a_token_hides_nothing(tmp_path: Path) -> None:
    """llama.cpp reads such a piece up to the NUL: it takes `(` + NUL + `s` for `(`."""
    llm = seeded_llm(tmp_path)
    document = json.loads((llm / "tokenizer.json").read_text("utf-8"))
    vocab = document["model"]["vocab"]
    size = len(vocab) + len(document["added_tokens"])
    vocab.update({"(\u0100": size, "(\u0100s": size + 1})  # U+0100 stands for the byte 0
    document["model"]["merges"] += [["(", "\u0100"], ["(\u0100", "s"]]
    (llm / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    path = write_gguf(llm, tmp_path / "nul.gguf", "f32").path
    with Decoder.open(path, stop_ids=[STOP], use_extra_bufts=True, n_threads=1) as decoder:
        assert decoder.piece(size + 1) == b"(\0s"
        with decoder._choice(points_grammar()) as choose:
            wants = np.zeros(decoder.vocab_size, np.float32)
            wants[vocab["["]] = 1.0
            assert choose(wants) == vocab["["]
            wants[size + 1], wants[vocab["("]] = 9.0, 2.0
            assert choose(wants) == vocab["("]


def test_bounds_on_points_and_thought(decoder: Decoder) -> None:
    small = points_grammar(max_points=2, max_thought_characters=3)
    assert allows(decoder, small, "[(0.1, 0.1), (0.1, 0.1)]")
    assert not allows(decoder, small, "[(0.1, 0.1), (0.1, 0.1), (0.1, 0.1)]")
    assert allows(decoder, small, "<think>abc</think><answer>[(0.1, 0.1)]</answer>")
    assert not allows(decoder, small, "<think>abcd</think><answer>[(0.1, 0.1)]</answer>")


def test_no_random_model_leaves_the_grammar_or_rambles(decoder: Decoder) -> None:
    bounds = {"max_points": FEW_POINTS, "max_thought_characters": SHORT_THOUGHT}
    grammar, limit = points_grammar(**bounds), longest_answer_tokens(**bounds)
    rng = np.random.default_rng(3)
    reasoned = 0
    for _ in range(250):
        noise = EmbedSegment(rng.normal(scale=3.0, size=(4, decoder.width)).astype(np.float32))
        answer = decoder.generate([noise], max_tokens=limit, grammar=grammar)
        assert answer.stopped, answer.text
        assert STRICT.fullmatch(answer.text), answer.text
        reasoned += answer.text.startswith("<think>")
    assert 10 < reasoned < 240  # both forms were tried


def test_longest_answer_fits_its_bound(decoder: Decoder) -> None:
    longest = f"<think>{'z' * 1200}</think>\n\n<answer>[{', '.join(['(0.1234, 0.5678)'] * 12)}]</answer>"
    assert allows(decoder, points_grammar(), longest)
    assert len(longest.encode()) + 1 <= longest_answer_tokens()


def test_a_model_that_keeps_to_the_grammar_does_not_notice_it(decoder: Decoder) -> None:
    rng = np.random.default_rng(5)
    tried = 0
    for _ in range(40):
        noise = EmbedSegment(rng.normal(size=(6, decoder.width)).astype(np.float32))
        free = decoder.generate([noise], max_tokens=8)
        if "\ufffd" in free.text or free.token_ends[-1] != sum(len(decoder.piece(t).decode()) for t in free.token_ids):
            continue  # broken characters or special tokens, which no grammar allows
        literal = "root ::= " + " ".join(f"[\\U{ord(c):08X}]" for c in free.text) + " [a-z]*\n"
        bound = decoder.generate([noise], max_tokens=8, grammar=literal)
        assert (bound.token_ids, bound.token_probs) == (free.token_ids, free.token_probs)
        tried += 1
    assert tried >= 5


def test_probability_is_the_model_s_own_not_the_grammar_s(decoder: Decoder) -> None:
    noise = [EmbedSegment(np.random.default_rng(1).normal(size=(6, decoder.width)).astype(np.float32))]
    answer = decoder.generate(noise, max_tokens=64, grammar='root ::= "[(0.5, 0.5)]"\n')
    logits = decoder.logits(noise, answer.token_ids).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    expected = shares[np.arange(len(answer.token_ids)), answer.token_ids]
    np.testing.assert_allclose(answer.token_probs, expected, rtol=1e-2)
    assert min(answer.token_probs) < 0.1


@pytest.mark.parametrize("grammar", ["", "root ::= (", "other ::= [a]", "root ::= undefined"])
def test_broken_grammar_is_an_error_not_a_crash(decoder: Decoder, grammar: str) -> None:
    noise = EmbedSegment(np.zeros((2, decoder.width), np.float32))
    with pytest.raises(InferenceError, match="grammar"):
        decoder.generate([noise], max_tokens=4, grammar=grammar)


@pytest.mark.parametrize("bounds", [{"max_points": 0}, {"max_thought_characters": 0}])
def test_bounds_start_at_one(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="start at 1"):
        points_grammar(**bounds)
