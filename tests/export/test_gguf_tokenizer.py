"""llama.cpp's tokenizer against the checkpoint's own, string by string and, slowly, character by character."""

import itertools
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import TokenType
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edge_runtime.decoder import Decoder
from edge_runtime.errors import BundleInvalid, CheckpointError, InstructionError
from export.gguf_decoder import write_gguf
from export.gguf_vocabulary import QWEN2_SPLIT, byte_alphabet, read_vocabulary
from tests.seeded_gguf import STOP, seeded_gguf, seeded_llm
from train.tokenizer import MEDIA_TOKENS, read_tokenizer

VARIANTS = ("A", "B", "C", "D")
STRINGS = 2400

# What an instruction is made of, from the ordinary to the hostile; each piece is drawn at random.
PIECES = (
    ["the", "red cup", "Point", "left", "don't", "WE'LL", "it's", "I'd", "they've", "o'clock", "x1", "A4", "3rd"],
    ["0", "7", "42", "0.312", "1,000,000", "٣٤", "१२", "Ⅷ", "½", "²", "(0.1, 0.9)", "[(1, 0)]"],
    ["你好", "杯子左边", "カップ", "ひらがな", "한국어", "ไทย", "漢字123", "、。", "（括号）", "Ａｂ"],
    ["🙂", "👍🏽", "👩‍👩‍👧", "🇩🇪", "❤️", "☕", "→", "≤", "€", "№"],
    ["e\u0301", "a\u0308\u0323", "\u0301", "ﬁ", "Å", "Å", "ñ", "ｶﾞ", "क्षि", "u\u031b\u0301"],
    ["<|im_end|>", "<|im_start|>user", "<image>", "<depth>", "<vila/video>", "[PAD]", "<|endoftext|>", "<think>"],
    [" ", "  ", "     ", "\t", "\t\t ", "\u00a0", "\u3000", "\u2009", "\u200b", "\ufeff", "\u2028"],
    ["\n", "\r\n", "\n\n\n", " \n ", "\r", "\x0b", "\x0c", "\x85"],
    ["def f(x):\n    return x**2", "a->b", "x != y;", "{'k': [1]}", "http://x.y/z?q=1", "C:\\d", "#!/bin/sh", "&&||"],
    ["\x00", "\x01", "\x1b[0m", "\x7f", "\ufffd", "\u202e", "\U000e0001", "\U0010ffff"],
    ["مرحبا", "שלום", "١٢٣", "לְשָׁלוֹם", "اَلْعَرَبِيَّةُ", "؟", "«»"],
    [".", ",", "!!", "...", "'", '"', "''s", "-", "--", "()", "[]", "@", "$5", "%", "_", "*", "~"],
)  # fmt: skip


def random_strings() -> Iterator[str]:
    rng = np.random.default_rng(20261123)
    pieces = list(itertools.chain.from_iterable(PIECES))
    yield from pieces
    for _ in range(STRINGS - len(pieces)):
        group = pieces if rng.random() < 0.6 else PIECES[rng.integers(len(PIECES))]
        joint = " " if rng.random() < 0.3 else ""
        yield joint.join(group[rng.integers(len(group))] for _ in range(rng.integers(1, 12)))


def compare(llm: Path, decoder: Decoder) -> None:
    """Ids are the same for text in NFC, and the tokenizer's own normalisation is NFC."""
    reference = Tokenizer.from_file(str(llm / "tokenizer.json"))
    reference.encode_special_tokens = True  # transformers calls it split_special_tokens
    strings = list(random_strings())
    assert len(strings) >= 2000
    expected = [encoding.ids for encoding in reference.encode_batch(strings, add_special_tokens=False)]
    for text, ids in zip(strings, expected, strict=True):
        assert decoder.tokenize(unicodedata.normalize("NFC", text)).tolist() == ids, repr(text)


def test_ids_of_our_own_tokenizer(tmp_path: Path) -> None:
    with Decoder.open(seeded_gguf(tmp_path), stop_ids=[STOP], use_extra_bufts=True) as decoder:
        compare(seeded_llm(tmp_path), decoder)


@pytest.mark.reference
@pytest.mark.parametrize("variant", VARIANTS)
def test_ids_of_the_recorded_tokenizers(golden: Path, tmp_path: Path, variant: str) -> None:
    llm = golden / variant / "checkpoint" / "llm"
    recorded = json.loads((golden / variant / "golden.json").read_text("utf-8"))["tokenizer"]
    path = write_gguf(llm, tmp_path / "d.gguf", "f32").path
    with Decoder.open(path, stop_ids=[STOP], use_extra_bufts=True) as decoder:
        compare(llm, decoder)
        for name, index in recorded["added_vocab"].items():
            assert decoder.token_id(name) == index
            assert decoder.piece(index) == name.encode()


def test_special_tokens_in_text_stay_text(tmp_path: Path) -> None:
    with Decoder.open(seeded_gguf(tmp_path), stop_ids=[STOP], use_extra_bufts=True) as decoder:
        stop = decoder.token_id(STOP)
        ids = decoder.tokenize(f"a {STOP} b")
        assert stop not in ids
        assert b"".join(decoder.piece(i) for i in ids.tolist()) == f"a {STOP} b".encode()
        assert decoder.tokenize("").shape == (0,)


@pytest.mark.parametrize("name", ["<none>", "a cup", "", "<|im_end|> "])
def test_token_of_an_unknown_name_is_an_error(tmp_path: Path, name: str) -> None:
    with (
        Decoder.open(seeded_gguf(tmp_path), stop_ids=[STOP], use_extra_bufts=True) as decoder,
        pytest.raises(BundleInvalid, match="no token"),
    ):
        decoder.token_id(name)


def test_lone_surrogates_are_no_text(tmp_path: Path) -> None:
    with (
        Decoder.open(seeded_gguf(tmp_path), stop_ids=[STOP], use_extra_bufts=True) as decoder,
        pytest.raises(InstructionError, match="Unicode"),
    ):
        decoder.tokenize("cup \udcff")


@pytest.mark.parametrize("text", ["a", " ", "\n", "!", "1", "é", "你", "'s ", "a1 \n"])
def test_long_monotonous_text_neither_crashes_nor_differs(tmp_path: Path, text: str) -> None:
    long = text * 20_000
    reference = Tokenizer.from_file(str(seeded_llm(tmp_path) / "tokenizer.json"))
    with Decoder.open(seeded_gguf(tmp_path), stop_ids=[STOP], use_extra_bufts=True) as decoder:
        assert decoder.tokenize(long).tolist() == reference.encode(long).ids


# --- two files that number tokens -----------------------------------------------------------------------


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


@pytest.fixture
def split_llm(tmp_path: Path) -> tuple[Path, int]:
    """A tokenizer whose last tokens stand only in tokenizer_config.json, and the id of the first one."""
    llm = seeded_llm(tmp_path)
    document = json.loads((llm / "tokenizer.json").read_text("utf-8"))
    config = json.loads((llm / "tokenizer_config.json").read_text("utf-8"))
    kept = [t for t in document["added_tokens"] if t["content"] not in MEDIA_TOKENS]
    first = len(document["model"]["vocab"]) + len(kept)
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    listed = {i: e for i, e in config["added_tokens_decoder"].items() if e["content"] not in MEDIA_TOKENS}
    listed |= {
        str(first + 1): {"content": "<depth>", "special": True, **flags},  # in another order than by default
        str(first): {"content": "<point>", "special": False, **flags},
    }
    edit(llm / "tokenizer.json", added_tokens=kept)
    edit(llm / "tokenizer_config.json", added_tokens_decoder=listed)
    return llm, first


def test_tokens_known_to_the_config_alone_get_the_same_ids(split_llm: tuple[Path, int]) -> None:
    llm, first = split_llm
    found = read_vocabulary(llm, MEDIA_TOKENS)
    expected = read_tokenizer(llm).tokenizer
    assert dict(zip(found.tokens, range(len(found)), strict=True)) == expected.get_vocab()
    assert found.tokens[first : first + 2] == ("<point>", "<depth>")
    assert found.types[first : first + 2] == (TokenType.USER_DEFINED, TokenType.CONTROL)
    for index, token in expected.added_tokens_decoder.items():
        assert (found.types[index] == TokenType.CONTROL) == token.special


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"added_tokens_decoder": {"7": {"content": "<|im_end|>"}}}, r"gives '<\|im_end\|>' the id 7"),
        ({"added_tokens_decoder": {"x": {"content": "<point>"}}}, "no list of tokens"),
        ({"added_tokens_decoder": {"7": {"content": 7}}}, "no list of tokens"),
        ({"added_tokens_decoder": {"7": None}}, "no list of tokens"),
        ({"added_tokens_decoder": [1]}, "no list of tokens"),
        ({"additional_special_tokens": ["<box>"]}, "'<box>' has no id"),
        ({"additional_special_tokens": [{"content": "<box>"}]}, "'<box>' has no id"),
    ],
)
def test_files_that_number_differently_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    llm = seeded_llm(tmp_path)
    edit(llm / "tokenizer_config.json", **changes)
    with pytest.raises(CheckpointError, match=words):
        read_vocabulary(llm, MEDIA_TOKENS)


# --- where the two differ -----------------------------------------------------------------------------------

# Letters and digits that llama.cpp's tables (Unicode 15) do not know and the tokenizer's (Unicode 16) do, as
# inclusive ranges. U+017F differs only after an apostrophe: `'ſ` folds to `'s` in one and not in the other.
KNOWN_DIFFERENCES = (
    (0x017F, 0x017F), (0x1C89, 0x1C8A), (0xA7CB, 0xA7CD), (0xA7DA, 0xA7DC), (0x105C0, 0x105F3), (0x10D40, 0x10D65),
    (0x10D6F, 0x10D85), (0x10EC2, 0x10EC4), (0x11380, 0x113D3), (0x116D0, 0x116E3), (0x11BC0, 0x11BF9),
    (0x13460, 0x143FA), (0x16100, 0x16139), (0x16D40, 0x16D79), (0x18CFF, 0x18CFF), (0x1CCF0, 0x1CCF9),
    (0x1E5D0, 0x1E5FA),
)  # fmt: skip
CONTEXTS = ("a{}", "!!{}", " {}", "{}a", "'{}", "  {}", "{}\n", "a'{}a", "{0} {0}", "'{0}{0}")


def splitting_tokenizer() -> Tokenizer:
    """Byte tokens that merge with a neighbour of every kind, so that each place of a split shows in the ids."""
    alphabet = byte_alphabet()
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    merges = []
    for context, byte in itertools.product(b"a! 1'\n\r", range(256)):
        for left, right in ((context, byte), (byte, context)):
            merged = alphabet[left] + alphabet[right]
            if merged not in vocab:
                vocab[merged] = len(vocab)
                merges.append((alphabet[left], alphabet[right]))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([STOP])
    return tokenizer


@pytest.fixture
def splitting(tmp_path: Path) -> Iterator[tuple[Tokenizer, Decoder]]:
    """The tokenizer above beside any weights: it is only tokenized with."""
    llm = seeded_llm(tmp_path)
    tokenizer = splitting_tokenizer()
    tokenizer.save(str(llm / "tokenizer.json"))
    (llm / "tokenizer_config.json").write_text(json.dumps({"eos_token": STOP}), "utf-8")
    path = write_gguf(llm, tmp_path / "splitting.gguf", "f32").path
    with Decoder.open(path, stop_ids=[STOP], use_extra_bufts=True) as decoder:
        yield tokenizer, decoder


def differing(splitting: tuple[Tokenizer, Decoder], characters: list[str]) -> set[str]:
    tokenizer, decoder = splitting
    found = set()
    for context in CONTEXTS:
        texts = [(c, context.format(c)) for c in characters]
        kept = [(c, text) for c, text in texts if unicodedata.is_normalized("NFC", text)]
        encodings: Any = tokenizer.encode_batch([text for _, text in kept], add_special_tokens=False)
        pairs = zip(kept, encodings, strict=True)
        found |= {c for (c, text), encoding in pairs if encoding.ids != decoder.tokenize(text).tolist()}
    return found


def test_common_characters_split_alike(splitting: tuple[Tokenizer, Decoder]) -> None:
    characters = [chr(c) for c in range(0x530) if c != 0x017F]
    assert differing(splitting, characters) == set()


@pytest.mark.slow
def test_every_character_splits_alike_but_the_known_ones(splitting: tuple[Tokenizer, Decoder]) -> None:
    blocks = ((0x0, 0xD800), (0xE000, 0x33480), (0xE0000, 0xE01F0), (0x10FFFE, 0x110000))
    characters = [chr(c) for start, end in blocks for c in range(start, end)]
    known = {chr(c) for first, last in KNOWN_DIFFERENCES for c in range(first, last + 1)}
    assert differing(splitting, characters) <= known
