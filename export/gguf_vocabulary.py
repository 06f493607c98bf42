"""From a Hugging Face `tokenizer.json` to the vocabulary llama.cpp needs, or a clear refusal.

llama.cpp re-implements the tokenizer, so only what it reproduces exactly is let through: byte-level BPE
with Qwen2's split expression. It does not tokenize anything and writes no file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from edge_runtime.errors import CheckpointError

# What llama.cpp's pre-tokenizer "qwen2" implements (its `'s` alternatives are spelled out there).
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NO_LIMIT = 10**9  # tokenizers write 1e30 for "no maximum length"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id and how to join them."""

    tokens: tuple[str, ...]  # byte-level alphabet for ordinary tokens, plain text for added ones
    types: tuple[int, ...]  # gguf.TokenType, one per token
    merges: tuple[str, ...]  # "left right", best first
    bos_id: int | None
    eos_id: int
    pad_id: int | None
    chat_template: str | None
    normalizer: str | None  # "NFC" or None; llama.cpp never normalises, so the caller has to
    max_length: int | None

    def __len__(self) -> int:
        return len(self.tokens)


def read_vocabulary(folder: Path, ensure_tokens: Sequence[str] = ()) -> Vocabulary:
    """Read and check the tokenizer of a checkpoint's `llm/` folder.

    Args:
        folder: holds `tokenizer.json` and `tokenizer_config.json`.
        ensure_tokens: names that have to be special tokens; missing ones are appended in this order.

    Raises:
        CheckpointError: a file is missing, or llama.cpp would tokenize differently.
    """
    document = _read_json(folder / "tokenizer.json")
    config = _read_json(folder / "tokenizer_config.json")
    _check_pipeline(document, folder)
    tokens, types = _tokens_and_types(document, folder)
    listed = _listed_tokens(config, folder)
    for added in listed.values():
        if added["content"] not in tokens:
            tokens.append(added["content"])
            types.append(_type_of(added, f"{folder}/tokenizer_config.json"))
    for name in ensure_tokens:
        if name in tokens:
            types[tokens.index(name)] = TokenType.CONTROL  # as transformers does with a known word
        else:
            tokens.append(name)
            types.append(TokenType.CONTROL)
    ids = {token: i for i, token in enumerate(tokens)}
    _check_tokens(tokens, ids, folder)
    _check_listed(listed, config, ids, folder)
    eos = _special_id(config, "eos_token", ids, folder)
    if eos is None:
        raise CheckpointError(f"{folder}/tokenizer_config.json names no eos_token; generation could not stop.")
    return Vocabulary(
        tokens=tuple(tokens),
        types=tuple(int(t) for t in types),
        merges=_merges(document["model"], ids, folder),
        bos_id=_special_id(config, "bos_token", ids, folder),
        eos_id=eos,
        pad_id=_special_id(config, "pad_token", ids, folder),
        chat_template=_chat_template(config, folder),
        normalizer=None if document.get("normalizer") is None else "NFC",
        max_length=_max_length(config),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing. Save the tokenizer once with transformers' save_pretrained."
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; expected a JSON object.")
    return value


def _check_pipeline(document: Mapping[str, Any], folder: Path) -> None:
    """Refuse everything in the tokenizer that llama.cpp's qwen2 pre-tokenizer does not do."""
    model = document.get("model") or {}
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback") or model.get("ignore_merges"):
        raise CheckpointError(f"{folder}/tokenizer.json is no plain byte-level BPE model, which Qwen2 uses.")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise CheckpointError(f"{folder}/tokenizer.json marks subwords with a prefix or suffix; Qwen2 does not.")
    normalizer = document.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise CheckpointError(
            f"{folder}/tokenizer.json normalises with {normalizer.get('type')}; only NFC or none is known."
        )
    found = _split_expression(document.get("pre_tokenizer"))
    if found != QWEN2_SPLIT:
        raise CheckpointError(
            f"{folder}/tokenizer.json splits text with an unknown pre-tokenizer: {found!r}. llama.cpp's "
            f"qwen2 expects {QWEN2_SPLIT!r}; another expression would give other token ids on the robot."
        )


def _split_expression(pre_tokenizer: Any) -> str | None:
    """The expression of `Split` followed by `ByteLevel` without its own expression, else None."""
    steps = (pre_tokenizer or {}).get("pretokenizers") or []
    if [step.get("type") for step in steps] != ["Split", "ByteLevel"]:
        return None
    split, byte_level = steps
    plain = split.get("behavior") == "Isolated" and not split.get("invert")
    if not plain or byte_level.get("add_prefix_space") or byte_level.get("use_regex", True):
        return None
    expression = (split.get("pattern") or {}).get("Regex")
    return expression if isinstance(expression, str) else None


def _tokens_and_types(document: Mapping[str, Any], folder: Path) -> tuple[list[str], list[TokenType]]:
    """Tokens in id order without gaps, and the type of each."""
    by_id = {index: (token, TokenType.NORMAL) for token, index in document["model"]["vocab"].items()}
    for added in document.get("added_tokens") or []:
        by_id[added["id"]] = (added["content"], _type_of(added, f"{folder}/tokenizer.json"))
    if sorted(by_id) != list(range(len(by_id))):
        raise CheckpointError(f"{folder}/tokenizer.json: the {len(by_id)} token ids are not 0 to {len(by_id) - 1}.")
    pairs = [by_id[index] for index in range(len(by_id))]
    return [token for token, _ in pairs], [kind for _, kind in pairs]


def _type_of(added: Mapping[str, Any], where: str) -> TokenType:
    if added.get("lstrip") or added.get("rstrip") or added.get("single_word"):
        raise CheckpointError(
            f"{where}: the added token {added['content']!r} swallows neighbouring blanks "
            "(lstrip, rstrip or single_word), which llama.cpp does not do."
        )
    return TokenType.CONTROL if added.get("special") else TokenType.USER_DEFINED


def _listed_tokens(config: Mapping[str, Any], folder: Path) -> dict[int, Mapping[str, Any]]:
    """What `added_tokens_decoder` of tokenizer_config.json lists, by id; tokenizer.json may lack some of it."""
    listed = config.get("added_tokens_decoder") or {}
    try:
        found = {int(index): entry for index, entry in listed.items()}
        if all(isinstance(entry["content"], str) for entry in found.values()):
            return dict(sorted(found.items()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}/tokenizer_config.json: added_tokens_decoder is no list of tokens") from error
    raise CheckpointError(f"{folder}/tokenizer_config.json: added_tokens_decoder is no list of tokens")


def _check_listed(
    listed: Mapping[int, Mapping[str, Any]], config: Mapping[str, Any], ids: Mapping[str, int], folder: Path
) -> None:
    """Both files must number alike, and name nothing that neither of them numbers."""
    where = f"{folder}/tokenizer_config.json"
    for index, added in listed.items():
        if (found := ids[added["content"]]) != index:
            raise CheckpointError(f"{where} gives {added['content']!r} the id {index}, tokenizer.json gives it {found}")
    for token in config.get("additional_special_tokens") or []:
        content = token.get("content") if isinstance(token, dict) else token
        if content not in ids:
            raise CheckpointError(
                f"{where}: the additional special token {content!r} has no id; save the tokenizer again"
            )


def _check_tokens(tokens: Sequence[str], ids: Mapping[str, int], folder: Path) -> None:
    if len(ids) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if ids[token] != i)
        raise CheckpointError(f"{folder}/tokenizer.json: two ids have the same token {twice!r}.")
    missing = [letter for letter in byte_alphabet() if letter not in ids]
    if missing:
        raise CheckpointError(
            f"{folder}/tokenizer.json lacks {len(missing)} of the 256 byte tokens (first: {missing[0]!r}); "
            "text holding those bytes could not be tokenized."
        )


def byte_alphabet() -> tuple[str, ...]:
    """The printable stand-in of each byte 0 to 255 in byte-level BPE (as published with GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256))


def _merges(model: Mapping[str, Any], ids: Mapping[str, int], folder: Path) -> tuple[str, ...]:
    """Merges as "left right"; older files store strings, newer ones pairs."""
    merges = []
    for merge in model.get("merges") or []:
        pair = merge.split(" ") if isinstance(merge, str) else list(merge)
        if len(pair) != 2 or "".join(pair) not in ids:
            raise CheckpointError(f"{folder}/tokenizer.json: the merge {merge!r} gives no token of the vocabulary.")
        merges.append(" ".join(pair))
    return tuple(merges)


def _special_id(config: Mapping[str, Any], key: str, ids: Mapping[str, int], folder: Path) -> int | None:
    value = config.get(key)
    content = value.get("content") if isinstance(value, dict) else value
    if content is None:
        return None
    if content not in ids:
        raise CheckpointError(f"{folder}/tokenizer_config.json: {key} {content!r} is not in the vocabulary.")
    return ids[content]


def _chat_template(config: Mapping[str, Any], folder: Path) -> str | None:
    """The template string; recent transformers keeps it in a file of its own."""
    template = config.get("chat_template")
    if isinstance(template, str):
        return template
    path = folder / "chat_template.jinja"
    return path.read_text("utf-8") if path.is_file() else None


def _max_length(config: Mapping[str, Any]) -> int | None:
    value = config.get("model_max_length")
    return int(value) if isinstance(value, int | float) and 0 < value < NO_LIMIT else None
