"""A small byte-level BPE tokenizer of our own, built like Qwen2's: for seeded checkpoints, tests and nano.

Same normaliser (NFC), same pre-tokeniser, same special tokens and chat template as a RoboRefer checkpoint, but
trained on the sentences below. Digits never merge, so a coordinate is always spelled digit by digit.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edge_runtime.prompt import POINT_SUFFIX
from train.tokenizer import MEDIA_TOKENS

# Qwen2's pattern: contractions, words with one leading mark, single digits, punctuation runs, line ends, blanks.
PRE_TOKENIZER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[BOS]", "[PAD]", *MEDIA_TOKENS)

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_OBJECTS = ("cup", "mug", "plate", "bowl", "bottle", "can", "book", "box", "pen holder", "laptop", "lemon", "cereal")
_COLOURS = ("red", "green", "blue", "yellow", "white", "black", "brown", "orange", "grey")
_PLACES = ("to the left of", "to the right of", "above", "below", "in front of", "behind", "between", "inside", "near")

_SENTENCES = (
    "system\nYou are a helpful assistant",
    "user\n\n",
    "assistant\n",
    POINT_SUFFIX,
    "Please point to the leftmost object on the table.",
    "Point to the free area between the bowl and the book.",
    "Pick up the object that is nearest to the camera.",
    "Place it in the vacant space, far from the edge of the table.",
    "Which one is taller, wider, bigger or smaller? The second from the right.",
    "The answer is [(0.412, 0.655)].",
    "[(0.1, 0.9), (0.25, 0.75), (0.333, 0.667)]",
    "<think>Step1: [Position] [red mug]: [(0.139, 0.628)]\nStep2: [Size] [box]: 0.12</think>",
    "<answer>[(0.3, 0.6)]</answer>",
    "[Orientation] [laptop]: (0.1, -0.2, 0.97)",
    "Yes. No. It is not in the image.",
)


def train_tokenizer(*, merges: int, sentences: Sequence[str] = ()) -> dict[str, bytes]:
    """Train the tokenizer and return the files of an `llm/` folder that make it up.

    Args:
        merges: How many tokens there are beyond the 256 bytes and the special tokens, at most.
        sentences: What the model will read, beside the sentences below.

    Returns:
        File name -> content; the same bytes on every call.
    """
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKENIZER), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([*_corpus(), *sentences], trainer)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    return _files(backend)


def _corpus() -> list[str]:
    pairs = [(a, b) for a in _OBJECTS for b in _OBJECTS if a != b]
    crossed = [
        f"Locate the {_COLOURS[i % len(_COLOURS)]} {a} {_PLACES[i % len(_PLACES)]} the {b}."
        for i, (a, b) in enumerate(pairs)
    ]
    return [*_SENTENCES, *crossed]


def _files(backend: Tokenizer) -> dict[str, bytes]:
    ids = {name: backend.token_to_id(name) for name in SPECIAL_TOKENS}
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    config = {
        "added_tokens_decoder": {str(i): {"content": n, **plain, "special": True} for n, i in ids.items()},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": "[BOS]",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 16384,
        "pad_token": "[PAD]",
        "padding_side": "right",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    named = {key: {"content": config[key], **plain} for key in ("bos_token", "eos_token", "pad_token")}
    special_map = {"additional_special_tokens": config["additional_special_tokens"], **named}
    return {
        "tokenizer.json": backend.to_str(pretty=True).encode("utf-8"),
        "tokenizer_config.json": _json_bytes(config),
        "special_tokens_map.json": _json_bytes(special_map),
        "added_tokens.json": _json_bytes(ids),
        **_model_files(backend),
    }


def _model_files(backend: Tokenizer) -> dict[str, bytes]:
    """vocab.json and merges.txt, which the library only writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(p) for p in backend.model.save(folder)]
        return {path.name: path.read_bytes() for path in paths}


def _json_bytes(data: object) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
