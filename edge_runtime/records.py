"""The records that cross from one stage to the next; frozen, typed, with shape and unit beside each field.

Letters: T tiles, h w tile height and width, N patches per tile, C tower width, D decoder width,
V vocabulary size, H W image height and width. `_norm` is [0, 1] of the full image with the origin at
the top left, `_px` is pixels, `_m` is metres. Camera frame: x right, y down, z forward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import DepthError
from hardware.geometry import Intrinsics

U8: TypeAlias = npt.NDArray[np.uint8]
F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
I32: TypeAlias = npt.NDArray[np.int32]

Modality = Literal["image", "depth"]
DepthSource = Literal["sensor", "file", "estimated", "none"]


# --- what is asked about: views --------------------------------------------------------------------


@dataclass(frozen=True)
class MetricDepth:
    """Depth in metres, registered to the image."""

    depth_m: F32  # [H, W] metres along z, NaN = hole
    source: DepthSource = "sensor"


@dataclass(frozen=True)
class RelativeDepth:
    """Inverse depth as the model was trained on: near is bright, no metric scale."""

    picture: U8  # [H, W, 3]
    source: DepthSource = "file"


Depth: TypeAlias = MetricDepth | RelativeDepth


@dataclass(frozen=True)
class View:
    """One image of the scene, with or without depth.

    Raises:
        DepthError: Metric depth is not registered to the image: its size differs.
    """

    rgb: U8  # [H, W, 3]
    depth: Depth | None = None
    intrinsics: Intrinsics | None = None  # of the RGB camera; without them no point can be lifted
    estimate_depth: bool = False  # where there is none and the bundle can; see `estimating.py`

    def __post_init__(self) -> None:
        """Check that metric depth belongs to the image pixel by pixel; relative depth may have any size."""
        if isinstance(self.depth, MetricDepth) and self.depth.depth_m.shape != self.rgb.shape[:2]:
            (height, width), (rows, cols) = self.depth.depth_m.shape, self.rgb.shape[:2]
            raise DepthError(
                f"the depth image is {width}x{height}, the picture is {cols}x{rows}: metric depth must be registered "
                "to the picture. Align it first (a camera or recording does it by itself)."
            )


@dataclass(frozen=True)
class TextPart:
    """Words of the user, in prompt order."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """An RGB image, in prompt order."""

    rgb: U8  # [H, W, 3]


@dataclass(frozen=True)
class DepthPart:
    """A depth image, in prompt order; it need not have an RGB partner."""

    depth: Depth


Part: TypeAlias = TextPart | ImagePart | DepthPart


# --- preprocess -> encoders ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ViewTiles:
    """The tiles of one image or depth picture."""

    pixels: F32  # [T, 3, h, w] normalised; dynamic: grid row by row, then the thumbnail; S2: scale by scale
    rows: int  # grid of the largest scale
    cols: int


# --- prompt -> decoder ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextRun:
    """Plain text between two special tokens; it never holds a special token itself."""

    text: str


@dataclass(frozen=True)
class SpecialToken:
    """One special token of the vocabulary, by name."""

    name: str


@dataclass(frozen=True)
class MediaBlock:
    """Stands for the next block of embeddings of a modality, followed by the embedding of a newline."""

    modality: Modality


Segment: TypeAlias = TextRun | SpecialToken | MediaBlock


@dataclass(frozen=True)
class Prompt:
    """A finished prompt: the string as the reference writes it, and the same cut into segments."""

    text: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class TokenSegment:
    """Token ids at rising positions."""

    ids: I32  # [n]


@dataclass(frozen=True)
class EmbedSegment:
    """Embeddings that enter the decoder in place of tokens."""

    embeds: F32  # [n, D]


DecoderSegment: TypeAlias = TokenSegment | EmbedSegment


# --- decoder -> parse --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generation:
    """What the decoder wrote, token by token."""

    text: str  # decoded, special tokens skipped, not stripped
    token_ids: tuple[int, ...]  # includes the stop token if one was reached
    token_probs: tuple[float, ...]  # softmax probability of each token, before any grammar
    token_ends: tuple[int, ...]  # offset in `text` (characters) at which each token's text ends
    stopped: bool  # a stop token was reached (not the length limit)
    prompt_tokens: int
    prefill_ms: float
    decode_ms: float
    reused_tokens: int = 0  # of the prompt, that were in the cache from the question before


# --- parse -> deproject -> publish ------------------------------------------------------------------


@dataclass(frozen=True)
class PointNorm:
    """A point as the model wrote it."""

    x: float  # [0, 1] of the image width
    y: float  # [0, 1] of the image height
    span: tuple[int, int]  # characters of the answer text it was read from


@dataclass(frozen=True)
class ReasoningStep:
    """One step of a `<think>` block: `Step1: [Position] [pen holder]: [(0.139, 0.628)]`."""

    index: int
    kind: str  # Position | Orientation | Size
    target: str
    value: str


@dataclass(frozen=True)
class ParsedAnswer:
    """The points and steps found in an answer text, or the reason why there are none."""

    kind: Literal["points", "text"]
    points: tuple[PointNorm, ...]
    steps: tuple[ReasoningStep, ...] = ()
    valid: bool = True
    reason: str | None = None


@dataclass(frozen=True)
class PointM:
    """A pixel lifted into the camera frame, or the reason why it cannot be."""

    camera_m: tuple[float, float, float] | None  # x right, y down, z forward
    depth_reason: str | None = None  # "no_depth" | "relative_depth" | "hole" | "no_intrinsics"
    base_m: tuple[float, float, float] | None = None  # in the robot's base frame
    depth_sigma_m: float | None = None  # one standard deviation along the camera's z; None where camera_m is
    depth_valid: float | None = None  # share [0, 1] of the pixels around it that have depth; None: not looked at


@dataclass(frozen=True)
class PointedAt:
    """One referred point in every frame of reference we know."""

    norm: tuple[float, float]
    px: tuple[int, int]
    position: PointM
    confidence: float  # [0, 1] from token probabilities


@dataclass(frozen=True)
class FrameStamp:
    """Which frame an answer is about."""

    id: int | str
    width: int
    height: int


@dataclass(frozen=True)
class Answer:
    """What one question gave: points or text, how sure, how long, about which frame."""

    kind: Literal["points", "text"]
    answer: str
    valid: bool
    reason: str | None
    points: tuple[PointedAt, ...]
    steps: tuple[ReasoningStep, ...]
    depth_source: DepthSource
    timings_ms: Mapping[str, float]  # busy time per stage, and "total"
    prompt_tokens: int
    generated_tokens: int
    bundle: str
    frame: FrameStamp
    reused: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """The object of `refer --json` (docs/schema/refer.json)."""
        return {
            "kind": self.kind,
            "answer": self.answer,
            "steps": [{"index": s.index, "kind": s.kind, "target": s.target, "value": s.value} for s in self.steps],
            "valid": self.valid,
            "reason": self.reason,
            "points": [_point_json(p) for p in self.points],
            "depth_source": self.depth_source,
            "timings_ms": {k: round(v, 3) for k, v in self.timings_ms.items()},
            "reused": list(self.reused),
            "tokens": {"prompt": self.prompt_tokens, "generated": self.generated_tokens},
            "bundle": self.bundle,
            "frame": {"id": self.frame.id, "width": self.frame.width, "height": self.frame.height},
        }


# --- track -> publish -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Where what was asked for is in one camera frame, between answers."""

    state: Literal["tracking", "lost"]
    px: tuple[int, int] | None  # None: lost; a place that is not known is not told
    camera_m: tuple[float, float, float] | None  # x right, y down, z forward; None: lost, or no depth
    base_m: tuple[float, float, float] | None  # in the robot's base frame, if the camera's place is known
    confidence: float  # [0, 1]: of the answer, of the tracking since, less with every second; 0: lost
    age_ms: float  # from the capture of the frame to this record
    frame: FrameStamp
    reason: str | None = None  # why it is lost or doubtful; for logs, not in the published object

    def to_json(self) -> dict[str, Any]:
        """The object between answers of `run --json` (docs/schema/run.json)."""
        return {
            "kind": "target",
            "state": self.state,
            "px": None if self.px is None else list(self.px),
            "camera_m": _rounded(self.camera_m),
            "base_m": _rounded(self.base_m),
            "confidence": round(self.confidence, 4),
            "age_ms": round(self.age_ms, 1),
            "frame": {"id": self.frame.id, "width": self.frame.width, "height": self.frame.height},
        }


def _point_json(point: PointedAt) -> dict[str, Any]:
    position = point.position
    return {
        "norm": [round(v, 6) for v in point.norm],
        "px": list(point.px),
        "camera_m": _rounded(position.camera_m),
        "base_m": _rounded(position.base_m),
        "depth_reason": position.depth_reason,
        "depth_sigma_m": None if position.depth_sigma_m is None else round(position.depth_sigma_m, 5),
        "depth_valid": None if position.depth_valid is None else round(position.depth_valid, 3),
        "confidence": round(point.confidence, 4),
    }


def _rounded(xyz: tuple[float, float, float] | None) -> list[float] | None:
    return None if xyz is None else [round(v, 5) for v in xyz]
