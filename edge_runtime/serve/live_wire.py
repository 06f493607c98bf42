"""What travels about the live camera: orders, what is asked, and the lines of the stream.

The lines are those of `run --json` (docs/schema/run.json) with the instruction on each, and three more kinds: `state`,
`missed` for a watcher who is too slow, and nothing else. A reader passes over fields and kinds it does not know.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from edge_runtime.records import DepthSource
from edge_runtime.serve.questions import CameraState
from edge_runtime.serve.wire import DepthPixelReply, FrameReply, Metres3, Pixel, PointReply, StepReply, TokensReply

Do = Literal["set", "add", "change", "cancel", "cancel_all", "finish"]

PROTOCOL = "roborefer-edge"  # of the WebSocket, where a client names one
TICKET_PREFIX = "ticket."


class TargetBody(BaseModel):
    """A change of what is asked about the live camera."""

    model_config = ConfigDict(strict=True, extra="forbid")

    do: Annotated[
        Do,
        Field(
            description="set: ask this now; add: after the others; change: say question `number` otherwise; cancel: "
            "drop question `number`; cancel_all; finish: drop the current one, the next moves up."
        ),
    ] = "set"
    text: Annotated[str, Field(description="What to point at; for set, add and change.")] = ""
    number: Annotated[int, Field(ge=0, le=2**53, description="Of a question; for change and cancel.")] = 0

    @model_validator(mode="after")
    def _whole(self) -> "TargetBody":
        """Refuse an order without what it is about."""
        if self.do in ("set", "add", "change") and not self.text.strip():
            raise ValueError(f"{self.do} needs text")
        if self.do in ("change", "cancel") and not self.number:
            raise ValueError(f"{self.do} needs the number of a question")
        return self


class QuestionReply(BaseModel):
    """A question of the live loop."""

    number: Annotated[int, Field(description="Rises; another one after each change.")]
    text: str


class AskedReply(BaseModel):
    """What is asked about the live camera."""

    current: Annotated[QuestionReply, Field(description="Asked and followed now.")] | None
    waiting: list[QuestionReply]


class TicketReply(BaseModel):
    """A ticket to the stream, for browsers that send no password with a WebSocket."""

    ticket: Annotated[str, Field(description="Good once; a subprotocol `ticket.TICKET` of the WebSocket.")]
    valid_s: int


class PixelReply(DepthPixelReply):
    """What the newest frame shows at a pixel."""

    frame: FrameReply


# --- the lines of the stream ------------------------------------------------------------------------------


class TargetLine(BaseModel):
    """Where the target is in one frame."""

    kind: Literal["target"]
    state: Literal["tracking", "lost"]
    px: Pixel | None
    camera_m: Metres3 | None
    base_m: Metres3 | None
    confidence: float
    age_ms: float
    frame: FrameReply
    instruction: Annotated[str, Field(description="Whose target it is.")] | None


class AnswerLine(BaseModel):
    """What the model said about one frame."""

    kind: Literal["answer"]
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
    age_ms: float
    dropped: int
    instruction: str | None


class StateLine(BaseModel):
    """How the live loop is; told when it changes, and every second."""

    kind: Literal["state"]
    now_s: Annotated[float, Field(description="Of the robot's monotonic clock.")]
    camera: CameraState
    model: Literal["loading", "ready", "failed"]
    frame_age_ms: Annotated[float, Field(description="Of the newest frame, when this line was made.")] | None
    tracking: bool
    turned_down: Annotated[str, Field(description="Why the loop works less hard, such as heat; empty: it does not.")]
    max_tiles: Annotated[int, Field(description="Tile budget of the next question.")] | None
    current: QuestionReply | None
    waiting: list[QuestionReply]
    frames: Annotated[int, Field(description="Handled since the start.")]
    dropped: int
    answers: int
    answer_ms: Annotated[float, Field(description="From the newest question to its answer.")] | None
    watchers: int


class MissedLine(BaseModel):
    """This watcher read too slowly."""

    kind: Literal["missed"]
    lines: int


class LiveReply(BaseModel):
    """The newest line of each kind; null before the first, and where nothing is asked."""

    state: StateLine | None
    target: TargetLine | None
    answer: AnswerLine | None


StreamLine = TargetLine | AnswerLine | StateLine | MissedLine
_LINES: TypeAdapter[StreamLine] = TypeAdapter(Annotated[StreamLine, Field(discriminator="kind")])
_KINDS = ("target", "answer", "state", "missed")


def read_line(text: str | bytes) -> StreamLine | None:
    """A line of the stream; None for a kind that is not known here.

    Raises:
        ValueError: It is none.
    """
    try:
        return _LINES.validate_json(text)
    except ValidationError as error:
        if [mistake["type"] for mistake in error.errors(include_input=False)] == ["union_tag_invalid"]:
            return None
        raise


def stream_schema() -> dict[str, Any]:
    """The JSON schema of the lines, as docs/schema/serve_stream.json has it."""
    return _LINES.json_schema()
