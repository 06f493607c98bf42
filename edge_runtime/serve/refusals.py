"""Why a request gets no answer: a status, a word for programs, a sentence for people, and nothing about the inside.

Refusal
├── NotAllowed     401 no or a wrong token, 403 from somewhere else than a user
├── BadRequest     400 what was sent cannot be read
├── TooLarge       413 more than the limits admit
├── TooSlow        408 the request did not arrive in time
├── WrongType      415 a content type or encoding that is not taken
├── Busy           429 the house is full: come back after `retry_after_s`
├── NoCamera       404 this server was started without a camera
├── NotReady       503 the model is being loaded, or is gone; the camera gives no frames
├── TooLate        504 no answer before the deadline
└── Left           499 the client is gone; nobody reads this
"""

from typing import Any

from edge_runtime.errors import CalibrationError, DepthError, EdgeError, ImageError, InferenceError, InstructionError


class Refusal(Exception):
    """Base of all: the answer to a request that is not answered."""

    status = 400
    kind = "bad_request"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """The body of the response; `result` 0 is how the upstream protocol says no."""
        return {"result": 0, "kind": self.kind, "error": str(self)}


class NotAllowed(Refusal):
    """Who asks may not."""

    def __init__(self, message: str, *, status: int = 401) -> None:
        super().__init__(message)
        self.status = status
        self.kind = "unauthorized" if status == 401 else "forbidden"

    @property
    def headers(self) -> dict[str, str]:
        """Browsers ask for a password when they see this; the user name does not matter."""
        return {"WWW-Authenticate": 'Basic realm="roborefer-edge", charset="UTF-8"'} if self.status == 401 else {}


class BadRequest(Refusal):
    """What was sent cannot be read or asked."""

    def __init__(self, message: str, *, kind: str = "bad_request") -> None:
        super().__init__(message)
        self.kind = kind


class TooLarge(Refusal):
    """More than the limits admit."""

    status = 413
    kind = "too_large"


class TooSlow(Refusal):
    """The request did not arrive in time."""

    status = 408
    kind = "too_slow"


class WrongType(Refusal):
    """A content type or encoding that is not taken."""

    status = 415
    kind = "wrong_type"


class Busy(Refusal):
    """The house is full."""

    status = 429
    kind = "busy"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """When to come back."""
        return {"Retry-After": str(self.retry_after_s)}


class NotReady(Refusal):
    """There is no model to ask, or no camera to look through: not yet, or not any more."""

    status = 503

    def __init__(self, message: str, *, kind: str = "not_ready") -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def headers(self) -> dict[str, str]:
        """Loading takes seconds."""
        return {"Retry-After": "2"}


class NoCamera(Refusal):
    """This server was started without a camera."""

    status = 404
    kind = "no_camera"

    def __init__(self) -> None:
        super().__init__("this server has no camera: start it with --camera realsense, or --camera software")


class TooLate(Refusal):
    """No answer before the deadline."""

    status = 504
    kind = "deadline"


class Left(Refusal):
    """The client closed its connection before its answer."""

    status = 499
    kind = "client_left"


_KINDS: tuple[tuple[type[EdgeError], str], ...] = (
    (ImageError, "bad_image"),
    (DepthError, "bad_depth"),
    (InstructionError, "bad_text"),
    (CalibrationError, "bad_calibration"),
)


class Failed(Refusal):
    """Native code refused a valid question; the reason is in the server's log."""

    status = 500
    kind = "inference_failed"


def refusal_of(error: EdgeError) -> Refusal:
    """What a client is told about an error of ours.

    Messages about pictures and words speak of what the client sent; of any other error they may name files of the
    server, so only its kind is told.
    """
    for family, kind in _KINDS:
        if isinstance(error, family):
            return BadRequest(str(error), kind=kind)
    if isinstance(error, InferenceError):
        return Failed("the model could not answer this question; the reason is in the server's log")
    return Failed("the server could not answer; the reason is in its log")
