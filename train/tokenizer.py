"""The checkpoint's tokenizer: read from files without a hub, completed with media tokens, and what hangs on it.

The files are kept byte by byte so that a checkpoint written back has the same tokenizer. Prompts come from the
robot's `edge_runtime/prompt.py`; only their plain text is tokenised here, so no text can become a special token.

Source: golden/contract.md sections 4 and 8.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from edge_runtime.errors import CheckpointError
from edge_runtime.records import Modality, Prompt, SpecialToken, TextRun

# In the order in which missing ones are added.
MEDIA_TOKENS = ("<vila/sentinel>", "<image>", "<vila/video>", "<depth>")
PLACEHOLDERS: dict[Modality, str] = {"image": "<image>", "depth": "<depth>"}

_REQUIRED_FILES = ("tokenizer.json", "tokenizer_config.json")
_OPTIONAL_FILES = (
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer and the files it is written as."""

    tokenizer: PreTrainedTokenizerFast
    files: Mapping[str, bytes]  # file name -> content


def read_tokenizer(folder: Path) -> TokenizerFiles:
    """Read the tokenizer of an `llm/` folder and add the media tokens it lacks.

    Raises:
        CheckpointError: A file is missing or is no tokenizer.
    """
    missing = [name for name in _REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} has no {' and no '.join(missing)}; a checkpoint's llm folder holds both")
    names = [n for n in (*_REQUIRED_FILES, *_OPTIONAL_FILES) if (folder / n).is_file()]
    return tokenizer_from_files({name: (folder / name).read_bytes() for name in names}, str(folder))


def tokenizer_from_files(files: Mapping[str, bytes], where: str) -> TokenizerFiles:
    """The same from file contents.

    Raises:
        CheckpointError: The contents are no tokenizer.
    """
    try:
        config = json.loads(files["tokenizer_config.json"])
        backend = Tokenizer.from_str(files["tokenizer.json"].decode("utf-8"))
    except Exception as error:  # tokenizers raises the bare class: there is nothing narrower
        raise CheckpointError(f"{where}: the tokenizer files cannot be read: {error}") from error
    added = _complete(backend, config, where)
    if added:
        files = {**files, **_files_after_adding(backend, config, files)}
    if "chat_template" not in config and "chat_template.jinja" in files:
        config["chat_template"] = files["chat_template.jinja"].decode("utf-8")
    return TokenizerFiles(_wrap(backend, config), files)


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[int]:
    """Token ids of a prompt, one placeholder id per media block.

    Raises:
        CheckpointError: The prompt needs a special token that the tokenizer lacks.
    """
    ids: list[int] = []
    for segment in prompt.segments:
        if isinstance(segment, TextRun):
            ids += text_ids(tokenizer, segment.text)
        else:
            name = segment.name if isinstance(segment, SpecialToken) else PLACEHOLDERS[segment.modality]
            ids.append(token_id(tokenizer, name))
    return ids


def text_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of plain text: words that look like a special token are split like any others."""
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True)
    return list(encoded["input_ids"])


def token_id(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    """Id of one token, by name.

    Raises:
        CheckpointError: There is no such token.
    """
    found = tokenizer.get_vocab().get(name)
    if found is None:
        special = sorted(tokenizer.get_added_vocab())
        raise CheckpointError(f"the tokenizer has no token {name!r}; its special tokens are {special}")
    return found


def newline_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Id of the newline that follows every media block.

    Raises:
        CheckpointError: A newline is not one token.
    """
    ids = text_ids(tokenizer, "\n")
    if len(ids) != 1:
        raise CheckpointError(f"the tokenizer splits a newline into {ids}; media blocks end with exactly one token")
    return ids[0]


def stop_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Ids that end an answer: the end-of-text token and the one that follows an assistant turn.

    Raises:
        CheckpointError: The tokenizer has neither.
    """
    names = {tokenizer.eos_token} - {None}
    _, after = _around_turn(tokenizer, "assistant", generation_prompt=False)
    names.update(s for s in sorted(tokenizer.get_added_vocab(), key=len) if after.startswith(s))
    if not names:
        raise CheckpointError("the tokenizer has no end-of-text token and its template ends no assistant turn")
    return tuple(sorted(token_id(tokenizer, name) for name in names))


def template_around_user(tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """The chat template's text before and after the content of one user turn, up to the answer."""
    return _around_turn(tokenizer, "user", generation_prompt=True)


def template_between_turns(tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """The chat template's text from the end of an answer to what the user says next.

    Returns:
        The special token that ends the answer, and the text behind it.

    Raises:
        CheckpointError: There is no template, or no special token ends an answer.
    """
    _require_template(tokenizer)
    answer, question = "\N{OBJECT REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}"
    turns = [("user", "?"), ("assistant", answer), ("user", question)]
    text = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in turns], tokenize=False)
    between = text.partition(answer)[2].partition(question)[0]
    ends = [name for name in sorted(tokenizer.get_added_vocab(), key=len, reverse=True) if between.startswith(name)]
    if not ends:
        raise CheckpointError(f"the chat template ends an answer with {between!r}, which begins with no special token")
    return ends[0], between.removeprefix(ends[0])


def _around_turn(tokenizer: PreTrainedTokenizerFast, role: str, *, generation_prompt: bool) -> tuple[str, str]:
    _require_template(tokenizer)
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
    if role == "user":
        turns = [{"role": "user", "content": mark}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation_prompt)
    before, found, after = text.partition(mark)
    if not found:
        raise CheckpointError(f"the chat template drops what the {role} says: {tokenizer.chat_template!r}")
    return before, after


def _require_template(tokenizer: PreTrainedTokenizerFast) -> None:
    if not tokenizer.chat_template:
        raise CheckpointError(
            "llm/tokenizer_config.json has no chat_template; training stores it there, add the one it used"
        )


def _complete(backend: Tokenizer, config: Mapping[str, Any], where: str) -> bool:
    """Add tokens that only tokenizer_config.json knows, then missing media tokens; whether any was added."""
    known = backend.get_vocab()
    listed = {int(i): entry for i, entry in (config.get("added_tokens_decoder") or {}).items()}
    late = [AddedToken(**listed[i]) for i in sorted(listed) if listed[i]["content"] not in known]
    backend.add_tokens(late)
    media = [
        AddedToken(name, special=True, normalized=False) for name in MEDIA_TOKENS if backend.token_to_id(name) is None
    ]
    backend.add_special_tokens(media)
    for i, entry in listed.items():
        if backend.token_to_id(entry["content"]) != i:
            raise CheckpointError(
                f"{where}: tokenizer_config.json gives {entry['content']!r} the id {i}, "
                f"tokenizer.json gives it {backend.token_to_id(entry['content'])}"
            )
    return bool(late or media)


def _files_after_adding(backend: Tokenizer, config: dict[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    decoder = backend.get_added_tokens_decoder()
    config["added_tokens_decoder"] = {
        str(i): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for i, token in sorted(decoder.items())
    }
    changed = {
        "tokenizer.json": backend.to_str(pretty=True).encode("utf-8"),
        "tokenizer_config.json": _json_bytes(config),
    }
    if "added_tokens.json" in files:
        changed["added_tokens.json"] = _json_bytes({token.content: i for i, token in sorted(decoder.items())})
    return changed


def _wrap(backend: Tokenizer, config: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    named = {name: _content(config[name]) for name in _NAMED_TOKENS if config.get(name) is not None}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        additional_special_tokens=[_content(t) for t in config.get("additional_special_tokens") or ()],
        chat_template=config.get("chat_template"),
        clean_up_tokenization_spaces=bool(config.get("clean_up_tokenization_spaces", False)),
        model_max_length=config.get("model_max_length"),
        padding_side=config.get("padding_side", "right"),
        **named,
    )


def _content(token: Any) -> str:
    """A special token is written as a string or as an object with its content."""
    return token["content"] if isinstance(token, dict) else token


def _json_bytes(data: object) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
