"""Tokenising prompts: no text becomes a special token, missing media tokens are added, and what an answer stops at."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from edge_runtime.errors import CheckpointError
from edge_runtime.records import MediaBlock, Prompt, SpecialToken, TextRun
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.tiny_tokenizer import SPECIAL_TOKENS, train_tokenizer
from train.tokenizer import (
    newline_id,
    prompt_ids,
    read_tokenizer,
    stop_ids,
    template_around_user,
    text_ids,
    token_id,
    tokenizer_from_files,
)

Seeded = Callable[[str], Checkpoint]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return train_tokenizer(merges=160)


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    """The same tokenizer as if training had never added these tokens."""
    tokenizer = json.loads(files["tokenizer.json"])
    config = json.loads(files["tokenizer_config.json"])
    kept = [t for t in tokenizer["added_tokens"] if t["content"] not in names]
    first = min(t["id"] for t in tokenizer["added_tokens"])
    tokenizer["added_tokens"] = [{**t, "id": first + i} for i, t in enumerate(kept)]
    entries = config["added_tokens_decoder"].values()
    config["added_tokens_decoder"] = {
        str(first + i): e for i, e in enumerate(e for e in entries if e["content"] not in names)
    }
    return {
        **files,
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }


def test_segments_become_ids_in_order(files: dict[str, bytes]) -> None:
    tokenizer = tokenizer_from_files(files, "here").tokenizer
    segments = (SpecialToken("<|im_start|>"), TextRun("user\n"), MediaBlock("depth"), MediaBlock("image"), TextRun("a"))
    ids = prompt_ids(tokenizer, Prompt(text="", segments=segments))
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert tokenizer.decode(ids) == "<|im_start|>user\n<depth><image>a"
    assert ids[-3:-1] == [token_id(tokenizer, "<depth>"), token_id(tokenizer, "<image>")]


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_text_that_looks_like_a_special_token_stays_text(files: dict[str, bytes], name: str) -> None:
    tokenizer = tokenizer_from_files(files, "here").tokenizer
    ids = text_ids(tokenizer, f"say {name} twice")
    assert token_id(tokenizer, name) not in ids
    assert tokenizer.decode(ids) == f"say {name} twice"
    # the plain call is not left in that state
    assert tokenizer(name)["input_ids"] == [token_id(tokenizer, name)]


@pytest.mark.parametrize("text", ["0.123, 4567890", "٣١٤", "x2y10"])
def test_digits_never_merge(files: dict[str, bytes], text: str) -> None:
    tokenizer = tokenizer_from_files(files, "here").tokenizer
    pieces = [tokenizer.decode([i]) for i in text_ids(tokenizer, text)]
    assert not any(sum(c.isdigit() for c in piece) > 1 for piece in pieces)


@pytest.mark.parametrize(
    "text", ["", "a cup", "caf\u00e9", "水杯 🤖", "tabs\tand\r\n\r\nlines  ", "'LL I'm", "\x00\x7f", "e\u0301"]
)
def test_text_survives_up_to_normalisation(files: dict[str, bytes], text: str) -> None:
    tokenizer = tokenizer_from_files(files, "here").tokenizer
    assert tokenizer.decode(text_ids(tokenizer, text)) == unicodedata.normalize("NFC", text)


def test_missing_media_tokens_are_added_in_order(files: dict[str, bytes]) -> None:
    bare = without(files, "<vila/sentinel>", "<image>", "<vila/video>", "<depth>")
    found = tokenizer_from_files(bare, "here")
    start = token_id(found.tokenizer, "[PAD]") + 1
    names = ("<vila/sentinel>", "<image>", "<vila/video>", "<depth>")
    assert [token_id(found.tokenizer, n) for n in names] == [start, start + 1, start + 2, start + 3]
    assert found.files["tokenizer.json"] != bare["tokenizer.json"]
    again = tokenizer_from_files(found.files, "here")
    assert again.files == found.files
    assert again.tokenizer.get_vocab() == found.tokenizer.get_vocab()
    assert json.loads(found.files["added_tokens.json"])["<depth>"] == start + 3


def test_a_checkpoint_without_depth_token_grows_one_row(seeded_folder: Callable[[str], Path], tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(seeded_folder("resize")), tmp_path / "old")
    old = {p.name: p.read_bytes() for p in (tmp_path / "old" / "llm").iterdir() if p.suffix in (".json", ".txt")}
    for name, content in without(old, "<depth>").items():
        (tmp_path / "old" / "llm" / name).write_bytes(content)
    # the file still has the row of the last token; cut it as a checkpoint from before the token would be
    path = tmp_path / "old" / "llm" / "model.safetensors"
    tensors = load_file(path)
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    tensors.update({name: tensors[name][:-1].clone() for name in tables})
    save_file(tensors, path)
    grown = load_checkpoint(tmp_path / "old")
    for name, table in zip(tables, (grown.model.llm.get_input_embeddings(), grown.model.llm.lm_head), strict=True):
        assert len(table.weight) == len(tensors[name]) + 1 == len(grown.tokenizer)
        assert table.weight[-1].allclose(tensors[name].mean(dim=0))


def test_tokens_known_to_the_config_alone_are_added(files: dict[str, bytes]) -> None:
    config = json.loads(files["tokenizer_config.json"])
    bare = json.loads(without(files, "<depth>")["tokenizer.json"])
    found = tokenizer_from_files({**files, "tokenizer.json": json.dumps(bare).encode()}, "here")
    (number,) = (int(i) for i, e in config["added_tokens_decoder"].items() if e["content"] == "<depth>")
    assert token_id(found.tokenizer, "<depth>") == number


def test_two_files_that_disagree_are_refused(files: dict[str, bytes]) -> None:
    config = json.loads(files["tokenizer_config.json"])
    entries = list(config["added_tokens_decoder"].values())
    ids = list(config["added_tokens_decoder"])
    config["added_tokens_decoder"] = dict(zip(ids, reversed(entries), strict=True))
    with pytest.raises(CheckpointError, match=r"gives '<depth>' the id \d+, tokenizer.json gives it \d+"):
        tokenizer_from_files({**files, "tokenizer_config.json": json.dumps(config).encode()}, "here")


def test_stop_tokens_are_end_of_text_and_end_of_turn(files: dict[str, bytes]) -> None:
    tokenizer = tokenizer_from_files(files, "here").tokenizer
    assert stop_ids(tokenizer) == (token_id(tokenizer, "<|im_end|>"),)
    config = json.loads(files["tokenizer_config.json"])
    changed = {**files, "tokenizer_config.json": json.dumps({**config, "eos_token": "<|endoftext|>"}).encode()}
    tokenizer = tokenizer_from_files(changed, "here").tokenizer
    assert stop_ids(tokenizer) == tuple(token_id(tokenizer, n) for n in ("<|endoftext|>", "<|im_end|>"))


def test_the_template_surrounds_one_user_turn(files: dict[str, bytes]) -> None:
    before, after = template_around_user(tokenizer_from_files(files, "here").tokenizer)
    assert before == "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\n"
    assert after == "<|im_end|>\n<|im_start|>assistant\n"


def test_template_may_lie_in_its_own_file(files: dict[str, bytes]) -> None:
    config = json.loads(files["tokenizer_config.json"])
    template = config.pop("chat_template")
    moved = {
        **files,
        "tokenizer_config.json": json.dumps(config).encode(),
        "chat_template.jinja": template.encode(),
    }
    tokenizer = tokenizer_from_files(moved, "here").tokenizer
    assert tokenizer.chat_template == template


def test_a_token_that_is_not_there_is_named(files: dict[str, bytes]) -> None:
    tokenizer = tokenizer_from_files(files, "here").tokenizer
    with pytest.raises(CheckpointError, match=r"no token '<point>'; its special tokens are \["):
        token_id(tokenizer, "<point>")
    assert newline_id(tokenizer) == tokenizer.get_vocab()["Ċ"]


def test_both_files_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer.json and no tokenizer_config.json"):
        read_tokenizer(tmp_path)


def test_a_newline_of_two_tokens_is_refused(files: dict[str, bytes]) -> None:
    tokenizer = json.loads(files["tokenizer.json"])
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "\n"}, "content": "\n x"}
    found = tokenizer_from_files({**files, "tokenizer.json": json.dumps(tokenizer).encode()}, "here")
    with pytest.raises(CheckpointError, match="splits a newline into"):
        newline_id(found.tokenizer)


def test_a_tokenizer_that_never_stops_is_refused(files: dict[str, bytes]) -> None:
    config = json.loads(files["tokenizer_config.json"])
    config |= {"eos_token": None, "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"}
    found = tokenizer_from_files({**files, "tokenizer_config.json": json.dumps(config).encode()}, "here")
    with pytest.raises(CheckpointError, match="no end-of-text token"):
        stop_ids(found.tokenizer)
