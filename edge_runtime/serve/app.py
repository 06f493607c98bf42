"""The application: routes, refusals and the guard around them, put together once per server."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp

from edge_runtime.serve.door import Door, Tickets
from edge_runtime.serve.guard import Guard, refusal_response
from edge_runtime.serve.inference import InferenceThread
from edge_runtime.serve.intake import Intake
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.live import LiveSide
from edge_runtime.serve.live_routes import LiveRoutes
from edge_runtime.serve.live_wire import AskedReply, LiveReply, PixelReply, TargetBody, TicketReply
from edge_runtime.serve.measured import ServerMetrics
from edge_runtime.serve.openapi import describe, json_body, json_or_form_body, query, refusals
from edge_runtime.serve.page_files import load_page
from edge_runtime.serve.questions import CameraState
from edge_runtime.serve.refusals import Refusal
from edge_runtime.serve.routes import Routes
from edge_runtime.serve.wire import DepthBody, DepthReply, QueryBody, QueryReply, ReferBody, ReferReply, StateReply

_log = logging.getLogger(__name__)

_ABOUT = (
    "From an instruction and a picture to points. `POST /query` is the protocol of the RoboRefer server; "
    "`POST /v1/refer` also gives pixels, metres, confidence and times. With a live camera, `/v1/target` says what is "
    "asked about it, and the WebSocket `/v1/stream` tells where it is in every frame."
)


def build_app(
    *, thread: InferenceThread, limits: ServeLimits, token: str | None, live: LiveSide | None = None
) -> ASGIApp:
    """The application of one server.

    Args:
        thread: Answers questions; started and stopped by the caller.
        limits: Of each request and of all together.
        token: What requests have to bring; None on loopback.
        live: The live camera, if there is one; started and stopped by the caller.
    """
    metrics, intake, tickets = ServerMetrics(thread), Intake(limits), Tickets()
    if live is not None:
        metrics.watch_loop(lambda: live.status, live.watchers)

    def camera() -> CameraState:
        return "none" if live is None else live.camera

    routes = Routes(limits=limits, thread=thread, intake=intake, metrics=metrics, page=load_page(), camera=camera)
    app = FastAPI(
        title="RoboRefer Edge",
        version=version("roborefer-edge"),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=_closing(intake),
    )
    _add_routes(app, routes)
    _add_live_routes(app, LiveRoutes(live=live, limits=limits, intake=intake, tickets=tickets))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(Exception, _defect)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    # Not as a middleware of the framework: those lie inside of what answers for our defects.
    return Guard(app, door=Door(token, tickets), metrics=metrics)


def _closing(intake: Intake) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        intake.close()

    return lifespan


def _add_routes(app: FastAPI, routes: Routes) -> None:
    ask = refusals()
    look = refusals(400, 401, 403, 408, 413, 415, 429)
    form = {"images": True, "depths": True}
    app.add_api_route(
        "/query", routes.query, methods=["POST"], responses={200: {"model": QueryReply}, **ask},
        openapi_extra=json_body(QueryBody), response_class=JSONResponse,
    )  # fmt: skip
    app.add_api_route(
        "/v1/refer", routes.refer, methods=["POST"], responses={200: {"model": ReferReply}, **ask},
        openapi_extra=json_or_form_body(ReferBody, files=form), response_class=JSONResponse,
    )  # fmt: skip
    app.add_api_route(
        "/v1/depth", routes.depth, methods=["POST"], responses={200: {"model": DepthReply}, **look},
        openapi_extra=json_or_form_body(DepthBody, files={"depth": False}), response_class=JSONResponse,
    )  # fmt: skip
    app.add_api_route(
        "/readyz", routes.ready, methods=["GET"], response_class=JSONResponse,
        responses={200: {"model": StateReply}, 503: {"model": StateReply, "description": "Not now."}},
    )  # fmt: skip
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    allowed = refusals(401, 403)
    app.add_api_route("/healthz", routes.alive, methods=["GET"], responses={200: text}, response_class=Response)
    app.add_api_route(
        "/metrics", routes.metrics, methods=["GET"], responses={200: text, **allowed}, response_class=Response
    )
    for path, handler in (("/", routes.home), ("/docs", routes.docs), ("/page/{name}", routes.page_file)):
        app.add_api_route(path, handler, methods=["GET"], include_in_schema=False)


def _add_live_routes(app: FastAPI, routes: LiveRoutes) -> None:
    """The paths about the live camera; without one they say so."""
    look = refusals(400, 401, 403, 404, 503)
    app.add_api_route(
        "/v1/target", routes.order, methods=["POST"], response_class=JSONResponse,
        responses={200: {"model": AskedReply}, **refusals(400, 401, 403, 404, 408, 413, 415, 429, 503)},
        openapi_extra=json_body(TargetBody),
    )  # fmt: skip
    app.add_api_route(
        "/v1/target", routes.newest, methods=["GET"], responses={200: {"model": LiveReply}, **refusals(401, 403, 404)},
        response_class=JSONResponse,
    )  # fmt: skip
    jpeg = {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
    app.add_api_route(
        "/v1/frame.jpg", routes.frame, methods=["GET"], responses={200: jpeg, **look}, response_class=Response,
        openapi_extra=query(of={"type": "string", "enum": ["rgb", "depth"], "default": "rgb"}),
    )  # fmt: skip
    size = {"type": "integer", "minimum": 0, "maximum": 99_999}
    app.add_api_route(
        "/v1/pixel", routes.pixel, methods=["GET"], responses={200: {"model": PixelReply}, **look},
        openapi_extra=query(u=size, v=size), response_class=JSONResponse,
    )  # fmt: skip
    app.add_api_route(
        "/v1/stream/ticket", routes.ticket, methods=["POST"], response_class=JSONResponse,
        responses={200: {"model": TicketReply}, **refusals(401, 403, 404)},
    )  # fmt: skip
    app.router.routes.append(WebSocketRoute("/v1/stream", routes.stream))


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refusal_response(error)


async def _not_routed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "bad_request")
    body = {"result": 0, "kind": kind, "error": str(error.detail)}
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _defect(_request: Request, error: Exception) -> Response:
    _log.error("a request met a defect of ours", exc_info=error)
    return JSONResponse({"result": 0, "kind": "defect", "error": "the server met a defect; see its log"}, 500)
