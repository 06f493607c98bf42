"""From the user's parts to the finished prompt, exactly as the reference writes it.

The prompt exists twice in a `Prompt`: as the string the reference would tokenise, and cut into segments,
which is what the decoder is fed. Segments are cut at special tokens, so text in between is always tokenised
as plain text and nothing a user types can become a special token. Tokenising happens at the decoder's door.

While a prompt is composed, media stand in the string as Unicode noncharacters, which cannot be confused with
words: they are stripped from the user's text first.

Source: golden/contract.md sections 4 and 5 (the reference observed), roborefer.md section 4.
"""

import re
import unicodedata
from collections.abc import Sequence

from edge_runtime.errors import InstructionError
from edge_runtime.manifest import ImageMode, PromptSpec, TokenSpec
from edge_runtime.records import (
    DepthPart,
    ImagePart,
    MediaBlock,
    Part,
    Prompt,
    Segment,
    SpecialToken,
    TextPart,
    TextRun,
    View,
)

# What upstream's client appends to ask for points: two spaces after the first comma.
POINT_SUFFIX = (
    "Your answer should be formatted as a list of tuples, i.e. [(x1, y1)],  where each tuple contains the "
    "x and y coordinates of a point satisfying the conditions above. The coordinates should be between 0 and "
    "1, indicating the normalized pixel locations of the points in the image."
)

# Removed from user text in this order, as upstream does.
MEDIA_LITERALS = ("<image>", "<vila/video>", "<depth>")

_IMAGE = "\ufdd0"
_DEPTH = "\ufdd1"
_PLACEHOLDER = re.compile(f"[{_IMAGE}{_DEPTH}]")
_PLACEHOLDER_LINE = re.compile(f"[{_IMAGE}{_DEPTH}]\n?")


def parts_of(views: Sequence[View], instruction: str) -> list[Part]:
    """The parts of a question about views, in upstream's order: images, depths, text."""
    images: list[Part] = [ImagePart(v.rgb) for v in views]
    depths: list[Part] = [DepthPart(v.depth) for v in views if v.depth is not None]
    return [*images, *depths, TextPart(instruction)]


def ask_for_points(instruction: str, spec: PromptSpec) -> str:
    """The instruction followed by the sentence that asks for coordinates."""
    return f"{instruction.strip()} {spec.point_suffix}"


def asks_for_points(text: str, spec: PromptSpec) -> bool:
    """Whether a text already holds the request for coordinates, however its white space is set."""
    return " ".join(spec.point_suffix.split()) in " ".join(text.split())


def check_instruction(text: str) -> str:
    """Refuse an instruction that cannot be asked.

    Raises:
        InstructionError: Nothing is left of it, or it holds bytes that are not UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InstructionError("the instruction is not valid UTF-8 text; check the terminal's encoding") from error
    if not _without_media(text).strip():
        raise InstructionError('the instruction is empty; say what to point at, e.g. "the red cup"')
    return text


def compose(
    parts: Sequence[Part],
    *,
    mode: ImageMode,
    image_tiles: Sequence[int],
    depth_tiles: Sequence[int],
    tokens: TokenSpec,
    template: PromptSpec,
) -> Prompt:
    """Write the prompt for these parts.

    Args:
        parts: Text and media in the order of the question.
        mode: The model's image mode.
        image_tiles: Tiles of each image, thumbnail included, in order.
        depth_tiles: Tiles of each depth picture, likewise.
        tokens: The vocabulary's special tokens.
        template: The chat template around one user turn.
    """
    content = "".join(_written(part) for part in parts)
    if mode != "resize":
        content = _pair_views(content)
    if mode == "dynamic":
        content = _one_placeholder_per_tile(content, image_tiles, depth_tiles)
    content = content.strip()
    segments = [
        *_cut_template(template.prefix, tokens),
        *_cut_content(content),
        *_cut_template(template.suffix, tokens),
    ]
    shown = content.replace(_IMAGE, tokens.image).replace(_DEPTH, tokens.depth or "")
    return Prompt(text=template.prefix + shown + template.suffix, segments=tuple(_merge_text(segments)))


def normalise(text: str, tokens: TokenSpec) -> str:
    """Text as the checkpoint's tokenizer would see it; llama.cpp applies no normaliser of its own."""
    return unicodedata.normalize("NFC", text) if tokens.normalizer == "nfc" else text


# --- composing the user turn ------------------------------------------------------------------------


def _written(part: Part) -> str:
    if isinstance(part, TextPart):
        return _without_media(part.text)
    return _IMAGE if isinstance(part, ImagePart) else _DEPTH


def _without_media(text: str) -> str:
    """Drop media literals; the text is stripped after each kind that was found, as upstream does."""
    text = _PLACEHOLDER.sub("", text)
    while any(literal in text for literal in MEDIA_LITERALS):  # removing one may join another together
        for literal in MEDIA_LITERALS:
            if literal in text:
                text = text.replace(literal, "").strip()
    return text


def _pair_views(content: str) -> str:
    """Pull equal numbers of images and depths to the front, one pair per line."""
    pairs = content.count(_DEPTH)
    if pairs == 0 or content.count(_IMAGE) != pairs:
        return content
    words = _PLACEHOLDER_LINE.sub("", content).strip("\n")
    return f"{_IMAGE} {_DEPTH}\n" * pairs + words


def _one_placeholder_per_tile(content: str, image_tiles: Sequence[int], depth_tiles: Sequence[int]) -> str:
    counts = {_IMAGE: iter(image_tiles), _DEPTH: iter(depth_tiles)}
    return _PLACEHOLDER.sub(lambda m: f"{m[0]}\n" * next(counts[m[0]]), content)


# --- cutting into segments --------------------------------------------------------------------------


def _cut_content(content: str) -> list[Segment]:
    segments: list[Segment] = []
    start = 0
    for found in _PLACEHOLDER.finditer(content):
        segments.append(TextRun(content[start : found.start()]))
        segments.append(MediaBlock("image" if found[0] == _IMAGE else "depth"))
        start = found.end()
    segments.append(TextRun(content[start:]))
    return segments


def _cut_template(text: str, tokens: TokenSpec) -> list[Segment]:
    names = sorted(tokens.special, key=len, reverse=True)
    pattern = re.compile("(" + "|".join(re.escape(name) for name in names) + ")")
    return [SpecialToken(s) if s in tokens.special else TextRun(s) for s in pattern.split(text)]


def _merge_text(segments: Sequence[Segment]) -> list[Segment]:
    """Join neighbouring text, so that a run is tokenised as a whole, and drop empty runs."""
    merged: list[Segment] = []
    for segment in segments:
        previous = merged[-1] if merged else None
        if isinstance(segment, TextRun) and isinstance(previous, TextRun):
            merged[-1] = TextRun(previous.text + segment.text)
        elif segment != TextRun(""):
            merged.append(segment)
    return merged
