"""What each path does: read, check, decode, wait in line, answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from edge_runtime.errors import EdgeError
from edge_runtime.image_files import decode_depth, depth_size_as_stored
from edge_runtime.serve.answering import answer_to
from edge_runtime.serve.guard import caller_of
from edge_runtime.serve.inference import InferenceThread
from edge_runtime.serve.intake import Intake, json_field, media_type, read_form
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.measured import CONTENT_TYPE, ServerMetrics
from edge_runtime.serve.page_files import PageFile
from edge_runtime.serve.pictures import (
    Files,
    check_files,
    check_pixels,
    depth_png,
    describe_depth,
    drawn_png,
    intrinsics_of,
    named,
    transform_of,
    views_of,
)
from edge_runtime.serve.questions import Answered, CameraState, Question
from edge_runtime.serve.refusals import BadRequest, TooLarge, WrongType, refusal_of
from edge_runtime.serve.wire import (
    Body,
    DepthBody,
    QueryBody,
    QueryReply,
    ReferBody,
    StateReply,
    bytes_of,
    read_fields,
    read_json,
    text_of,
)

T = TypeVar("T")

GREETING = "RoboRefer Edge is running. Ask with POST /query (RoboRefer's protocol) or POST /v1/refer; see /docs.\n"
DEPTH_HEADER = "X-RoboRefer-Depth"
# Requests that name no type are taken as JSON: `requests.post(url, data=json.dumps(...))` sends none.
_JSON_TYPES = ("application/json", "")
_FORM_TYPE = "multipart/form-data"
_JSON_FIELDS = ("intrinsics", "base_from_camera", "px")


@dataclass(frozen=True)
class Asked:
    """A request in our own protocol: its body but for the files, and the files."""

    body: ReferBody
    files: Files


class Routes:
    """The handlers of all paths.

    Args:
        limits: Of each request.
        thread: Answers questions.
        intake: Reads bodies.
        metrics: Counts.
        page: Files of the page by name.
        camera: How the live camera is.
    """

    def __init__(
        self,
        *,
        limits: ServeLimits,
        thread: InferenceThread,
        intake: Intake,
        metrics: ServerMetrics,
        page: dict[str, PageFile],
        camera: Callable[[], CameraState] = lambda: "none",
    ) -> None:
        self._limits = limits
        self._thread = thread
        self._intake = intake
        self._metrics = metrics
        self._page = page
        self._camera = camera

    # --- questions ------------------------------------------------------------------------------------

    async def query(self, request: Request) -> Response:
        """Ask as RoboRefer's own client does: the text goes to the model unchanged.

        Depth that is enabled but not sent is estimated. Where the bundle has no estimator the question is asked about
        the picture alone; `depth_source` and the header `X-RoboRefer-Depth` say which it was.
        """
        _insist_on_type(request, _JSON_TYPES)
        async with self._intake.body(request) as raw:
            self._thread.check_room(caller_of(request).name)
            question = await self._decoded(lambda: self._query_question(raw))
        answered = await self._answered(question, request, self._limits.deadline_s)
        source = answered.answer.depth_source
        reply = QueryReply(answer=answered.answer.answer, depth_source=source)
        return JSONResponse(reply.model_dump(), headers={DEPTH_HEADER: source})

    async def refer(self, request: Request) -> Response:
        """Ask for points: pixels, metres where depth and intrinsics are known, confidence, times."""
        kind = _insist_on_type(request, (*_JSON_TYPES, _FORM_TYPE))
        async with self._intake.body(request) as raw:
            self._thread.check_room(caller_of(request).name)
            if kind == _FORM_TYPE:
                fields, files = await read_form(raw, request.headers)
                asked = await self._decoded(lambda: _refer_form(fields, files))
            else:
                asked = await self._decoded(lambda: _refer_json(raw))
            question = await self._decoded(lambda: self._refer_question(asked))
        deadline_s = min(self._limits.deadline_s, (asked.body.deadline_ms or 1e9) / 1e3)
        answered = await self._answered(question, request, deadline_s)
        return JSONResponse(await self._decoded(lambda: _refer_reply(asked.body, question, answered)))

    async def depth(self, request: Request) -> Response:
        """Look at a depth map: its range, its holes, the distance and place of a pixel, a picture of it."""
        kind = _insist_on_type(request, (*_JSON_TYPES, _FORM_TYPE))
        async with self._intake.body(request) as raw:
            if kind == _FORM_TYPE:
                fields, files = await read_form(raw, request.headers)
                body, data = await self._decoded(lambda: _depth_form(fields, files))
            else:
                body, data = await self._decoded(lambda: _depth_json(raw))
            return JSONResponse(await self._decoded(lambda: self._depth_reply(body, data)))

    def _query_question(self, raw: bytes) -> Question:
        body = read_json(raw, QueryBody)
        self._check_text(body.text)
        files = _files_of(body.image_url, body.depth_url if body.enable_depth else [])
        check_files(files, self._limits)
        views = views_of(files, estimate_depth=bool(body.enable_depth) and not files.depths)
        return Question(views, body.text, raw_prompt=True)

    def _refer_question(self, asked: Asked) -> Question:
        body = asked.body
        self._check_text(body.text)
        check_files(asked.files, self._limits)
        intrinsics, transform = intrinsics_of(body.intrinsics), transform_of(body.base_from_camera)
        views = views_of(
            asked.files, depth_unit_m=body.depth_unit_m, intrinsics=intrinsics, estimate_depth=body.estimate_depth
        )
        return Question(views, body.text, body.raw_prompt, transform)

    def _depth_reply(self, body: DepthBody, data: bytes) -> dict[str, object]:
        check_pixels([depth_size_as_stored(data, name="depth")], self._limits)
        depth = decode_depth(data, name="depth", unit_m=body.depth_unit_m)
        px = None if body.px is None else (body.px[0], body.px[1])
        transform = transform_of(body.base_from_camera)
        facts = describe_depth(depth, px=px, intrinsics=intrinsics_of(body.intrinsics), base_from_camera=transform)
        return {**facts, "picture_png": text_of(depth_png(depth)) if body.picture else None}

    def _check_text(self, text: str) -> None:
        if len(text) > self._limits.text_chars:
            raise TooLarge(f"the text has {len(text)} characters; at most {self._limits.text_chars} are taken")

    async def _decoded(self, work: Callable[[], T]) -> T:
        """Run work beside the event loop; what it finds wrong with the request is a refusal."""
        try:
            return await self._intake.in_thread(work)
        except EdgeError as error:
            raise refusal_of(error) from error

    async def _answered(self, question: Question, request: Request, deadline_s: float) -> Answered:
        answered = await answer_to(question, caller_of(request), request, self._thread, deadline_s=deadline_s)
        self._metrics.saw_answer(answered)
        return answered

    # --- state and pages ------------------------------------------------------------------------------

    async def alive(self, _request: Request) -> Response:
        """Whether the process runs; needs no token."""
        return PlainTextResponse("ok\n")

    async def ready(self, _request: Request) -> Response:
        """Whether questions are answered now, and by what; needs no token."""
        state, facts = self._thread.state, self._thread.facts
        reply = StateReply(
            ready=state == "ready",
            state=state,
            bundle=None if facts is None else facts.bundle,
            takes_depth=None if facts is None else facts.takes_depth,
            estimates_depth=None if facts is None else facts.estimates_depth,
            tile_budget=None if facts is None else facts.tile_budget,
            in_house=self._thread.in_house,
            places=self._limits.queue,
            camera=self._camera(),
        )
        return JSONResponse(reply.model_dump(), 200 if reply.ready else 503)

    async def metrics(self, _request: Request) -> Response:
        """Counters for Prometheus."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def home(self, request: Request) -> Response:
        """The page for a browser, a line of text for everybody else."""
        if "text/html" in request.headers.get("accept", ""):
            return self._file("index.html")
        return PlainTextResponse(GREETING)

    async def docs(self, _request: Request) -> Response:
        """The OpenAPI document as a page."""
        return self._file("docs.html")

    async def page_file(self, request: Request) -> Response:
        """A file of the page, by its name in the package."""
        return self._file(str(request.path_params["name"]))

    def _file(self, name: str) -> Response:
        found = self._page.get(name)
        if found is None:
            return JSONResponse({"result": 0, "kind": "not_found", "error": "there is no such file"}, 404)
        return Response(found.content, media_type=found.media_type)


# --- reading -------------------------------------------------------------------------------------------------


def _insist_on_type(request: Request, taken: tuple[str, ...]) -> str:
    kind = media_type(request)
    if kind not in taken:
        raise WrongType(f"the body has to be {' or '.join(t for t in taken if t)}")
    return kind


def _refer_json(raw: bytes) -> Asked:
    body = read_json(raw, ReferBody)
    return Asked(body, _files_of(body.images, body.depths))


def _files_of(images: Sequence[str], depths: Sequence[str]) -> Files:
    """From base64 to files."""
    return Files(
        [bytes_of(text, name=named("image", i)) for i, text in enumerate(images)],
        [bytes_of(text, name=named("depth", i)) for i, text in enumerate(depths)],
    )


def _refer_form(fields: dict[str, str], files: dict[str, list[bytes]]) -> Asked:
    images, depths = files.pop("images", []), files.pop("depths", [])
    _insist_on_none(files)
    placeholders = {"images": ["file"] * len(images), "depths": ["file"] * len(depths)}
    body = _form_body({**fields, **placeholders}, ReferBody)
    return Asked(body, Files(images, depths))


def _depth_json(raw: bytes) -> tuple[DepthBody, bytes]:
    body = read_json(raw, DepthBody)
    return body, bytes_of(body.depth, name="depth")


def _depth_form(fields: dict[str, str], files: dict[str, list[bytes]]) -> tuple[DepthBody, bytes]:
    found = files.pop("depth", [])
    _insist_on_none(files)
    if len(found) != 1:
        raise BadRequest("send one file as `depth`")
    return _form_body({**fields, "depth": "file"}, DepthBody), found[0]


def _form_body(fields: dict[str, object], model: type[Body]) -> Body:
    for name in _JSON_FIELDS:
        text = fields.get(name)
        if isinstance(text, str):
            fields[name] = json_field(text, name=name) if text.strip() else None
    return read_fields(fields, model)


def _insist_on_none(files: dict[str, list[bytes]]) -> None:
    if files:
        raise BadRequest("the form has a file under a name this endpoint does not know")


def _refer_reply(body: ReferBody, question: Question, answered: Answered) -> dict[str, object]:
    picture = None
    if body.annotate:
        picture = text_of(drawn_png(question.views[0].rgb, answered.answer, body.text))
    return {**answered.answer.to_json(), "waited_ms": round(answered.waited_ms, 3), "annotated_png": picture}
