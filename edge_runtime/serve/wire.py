"""What travels as JSON, both ways: upstream's question and answer, ours, and a depth map to be looked at.

Bodies are read by pydantic, strictly: a number in quotes is no number, NaN is no number, nesting is limited by its
parser. Names this server does not know are passed over in `/query`, where other clients may send more, and refused in
our own protocol, where they are typing mistakes. Nothing of what was sent is repeated in an error message.
"""

import base64
import binascii
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edge_runtime.records import DepthSource
from edge_runtime.serve.questions import CameraState, WorkerState
from edge_runtime.serve.refusals import BadRequest

_MOST_LISTED = 64  # entries of a list that are looked at at all; the server's own limits are lower
_SHOWN_MISTAKES = 3

Base64File = Annotated[
    str, Field(description="A file in base64.", json_schema_extra={"contentEncoding": "base64", "minLength": 1})
]
Files = Annotated[list[Base64File], Field(max_length=_MOST_LISTED)]
Matrix4x4 = Annotated[
    list[Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=4, max_length=4)]],
    Field(min_length=4, max_length=4, description="Takes camera points to the robot's base."),
]
DepthUnit = Annotated[float, Field(ge=1e-9, le=1.0, allow_inf_nan=False, description="Metres per count of 16 bits.")]
Metres3 = Annotated[list[float], Field(min_length=3, max_length=3)]
Pixel = Annotated[list[int], Field(min_length=2, max_length=2)]


def _none_as_empty(value: Any) -> Any:
    return [] if value is None else value


class IntrinsicsBody(BaseModel):
    """A camera's intrinsics, as in `K.json`."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    fx: float
    fy: float
    cx: float
    cy: float
    width: Annotated[int, Field(ge=1, le=100_000)]
    height: Annotated[int, Field(ge=1, le=100_000)]
    model: str = "none"
    coeffs: Annotated[list[float], Field(min_length=5, max_length=5)] = [0.0] * 5


# --- questions ------------------------------------------------------------------------------------------


class QueryBody(BaseModel):
    """A question as upstream's client sends it."""

    model_config = ConfigDict(strict=True, extra="ignore")

    image_url: Annotated[Files, Field(min_length=1, description="The pictures.")]
    depth_url: Annotated[Files, BeforeValidator(_none_as_empty), Field(description="As many depth maps, or none.")] = []
    enable_depth: Annotated[Literal[0, 1] | bool, Field(description="Whether depth is used.")] = 0
    text: Annotated[str, Field(description="Sent to the model unchanged.")]


class ReferBody(BaseModel):
    """A question in our own protocol; as a form, `images` and `depths` are files and the rest are text fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    images: Annotated[Files, Field(min_length=1, description="The pictures; points are pixels of the first.")]
    depths: Annotated[Files, Field(description="As many depth maps, or none: 16-bit, float, .npy, or 8-bit.")] = []
    text: Annotated[str, Field(description="What to point at.")]
    depth_unit_m: DepthUnit = 0.001
    intrinsics: IntrinsicsBody | None = None
    base_from_camera: Matrix4x4 | None = None
    estimate_depth: Annotated[bool, Field(description="Estimate the depth that is not sent, if the bundle can.")] = (
        False
    )
    raw_prompt: Annotated[bool, Field(description="Send the text unchanged, without asking for coordinates.")] = False
    annotate: Annotated[bool, Field(description="Also send the first picture with the points drawn.")] = False
    deadline_ms: Annotated[int, Field(ge=1, le=3_600_000)] | None = None


class DepthBody(BaseModel):
    """A depth map to be looked at, and perhaps a pixel of it."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    depth: Base64File
    depth_unit_m: DepthUnit = 0.001
    intrinsics: IntrinsicsBody | None = None
    base_from_camera: Matrix4x4 | None = None
    px: Annotated[Pixel, Field(description="Column and row to measure at.")] | None = None
    picture: Annotated[bool, Field(description="Also send it as a PNG, near bright.")] = False


# --- answers --------------------------------------------------------------------------------------------


class QueryReply(BaseModel):
    """Upstream's answer, and which depth it is based on."""

    result: Literal[1] = 1
    answer: Annotated[str, Field(description="What the model wrote.")]
    depth_source: DepthSource


class PointReply(BaseModel):
    """One point."""

    norm: Annotated[list[float], Field(min_length=2, max_length=2, description="[0, 1] of the picture.")]
    px: Pixel
    camera_m: Annotated[Metres3, Field(description="x right, y down, z forward.")] | None
    base_m: Metres3 | None
    depth_reason: Annotated[str, Field(description="Why there are no metres.")] | None
    depth_sigma_m: Annotated[float, Field(description="One standard deviation of the depth.")] | None
    depth_valid: Annotated[float, Field(description="Share of the pixels around that have depth.")] | None
    confidence: float


class StepReply(BaseModel):
    """One step of a reasoning answer."""

    index: int
    kind: str
    target: str
    value: str


class TokensReply(BaseModel):
    """How much was read and written."""

    prompt: int
    generated: int


class FrameReply(BaseModel):
    """The picture."""

    id: int | str
    width: int
    height: int


class ReferReply(BaseModel):
    """The object of `refer --json`, how long the question waited, and perhaps the picture."""

    kind: Literal["points", "text"]
    answer: str
    steps: list[StepReply]
    valid: bool
    reason: str | None
    points: list[PointReply]
    depth_source: DepthSource
    timings_ms: dict[str, float]
    reused: list[str]
    tokens: TokensReply
    bundle: str
    frame: FrameReply
    waited_ms: Annotated[float, Field(description="In line, before the model began.")]
    annotated_png: Annotated[str, Field(description="In base64.")] | None


class DepthPixelReply(BaseModel):
    """What a depth map says about one pixel."""

    px: Pixel
    depth_m: Annotated[float, Field(description="Of the surface that the pixel shows.")] | None
    camera_m: Metres3 | None
    base_m: Metres3 | None
    depth_reason: str | None


class DepthReply(BaseModel):
    """What is in a depth map."""

    kind: Literal["metric", "relative"]
    width: int
    height: int
    range_m: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    hole_share: float | None
    pixel: DepthPixelReply | None
    picture_png: Annotated[str, Field(description="In base64.")] | None


class StateReply(BaseModel):
    """Whether questions are answered now, and by what."""

    ready: bool
    state: WorkerState
    bundle: str | None
    takes_depth: bool | None
    estimates_depth: Annotated[bool | None, Field(description="Where depth is asked for and not sent.")]
    tile_budget: int | None
    in_house: Annotated[int, Field(description="Questions in line or being answered.")]
    places: int
    camera: Annotated[CameraState, Field(description="Of the live camera; none: started without one.")]


class ErrorReply(BaseModel):
    """Why there is no answer."""

    result: Literal[0] = 0
    kind: str
    error: str


# --- reading ----------------------------------------------------------------------------------------------

Body = TypeVar("Body", bound=BaseModel)


def read_json(raw: bytes, model: type[Body]) -> Body:
    """A body from JSON bytes.

    Raises:
        BadRequest: Not JSON, or not what this endpoint takes.
    """
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise BadRequest(_said(error)) from None


def read_fields(fields: dict[str, Any], model: type[Body]) -> Body:
    """A body from the fields of a form, where every value is text: numbers and booleans are read from it.

    Raises:
        BadRequest: Not what this endpoint takes.
    """
    try:
        return model.model_validate(fields, strict=False)
    except ValidationError as error:
        raise BadRequest(_said(error)) from None


def bytes_of(text: str, *, name: str) -> bytes:
    """A file from base64, with or without a `data:` prefix; line breaks are allowed.

    Raises:
        BadRequest: Not base64, or empty.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{name} is not base64", kind="bad_base64") from error
    if not data:
        raise BadRequest(f"{name} is empty", kind="bad_base64")
    return data


def text_of(data: bytes) -> str:
    """Base64 of a file."""
    return base64.b64encode(data).decode("ascii")


def _said(error: ValidationError) -> str:
    mistakes = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{_place(m['loc'])}: {m['msg']}" for m in mistakes[:_SHOWN_MISTAKES]]
    more = len(mistakes) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _place(location: tuple[int | str, ...]) -> str:
    """Where in the body, in names of ours: a name the client made up is not repeated."""
    known = {name for body in (QueryBody, ReferBody, DepthBody, IntrinsicsBody) for name in body.model_fields}
    named = [str(part) for part in location if isinstance(part, int) or part in known]
    return ".".join(named) or "body"
