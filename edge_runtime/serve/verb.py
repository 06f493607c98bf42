"""`roborefer-edge serve`: bundle, token and address put together, until somebody interrupts."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.pipeline import Pipeline
from edge_runtime.preprocess import with_max_tiles
from edge_runtime.serve.app import build_app
from edge_runtime.serve.door import check_bind, read_token
from edge_runtime.serve.inference import InferenceThread, LoadedModel, OpenModel
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.listening import bound_socket, make_server
from edge_runtime.serve.questions import ModelFacts

_log = logging.getLogger(__name__)

# How long a thread holds the interpreter while another waits. At the default of 5 ms each token of an answer may wait
# that long for the event loop, which reads bodies.
SWITCH_INTERVAL_S = 5e-4


@dataclass(frozen=True)
class ServeRequest:
    """Where to listen and for whom."""

    host: str = "127.0.0.1"
    port: int = 25547
    token_file: Path | None = None
    max_tiles: int | None = None  # tile budget that the pipeline is opened with
    limits: ServeLimits = field(default_factory=ServeLimits)


def serve(request: ServeRequest, open_pipeline: Callable[[], Pipeline], *, say: Callable[[str], None]) -> None:
    """Answer until interrupted.

    Args:
        request: Where and for whom.
        open_pipeline: Loads the bundle.
        say: Tells a person the address.

    Raises:
        ConfigError: A bind to the network without a token, or a bad token file.
        DeviceError: The address cannot be had.
        EdgeError: The bundle cannot be loaded.
    """
    token = None if request.token_file is None else read_token(request.token_file)
    check_bind(request.host, has_token=token is not None)
    with bound_socket(request.host, request.port) as listening:
        host, port = listening.getsockname()[:2]
        thread = InferenceThread(
            model_of(open_pipeline, max_tiles=request.max_tiles),
            places=request.limits.queue,
            waiting_pixels=request.limits.waiting_pixels,
            on_end=lambda: server.stop(),  # noqa: PLW0108 - the server is made below
        )
        server = make_server(build_app(thread=thread, limits=request.limits, token=token), request.limits)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        thread.start()
        shown = f"[{host}]" if ":" in host else host
        say(f"listening on http://{shown}:{port} ({'token needed' if token else 'this machine only'})")
        try:
            server.run(sockets=[listening])
        finally:
            if not thread.stop():
                _log.warning("the model did not come back; leaving without it")
    if thread.failure is not None:
        raise thread.failure


def model_of(open_pipeline: Callable[[], Pipeline], *, max_tiles: int | None) -> OpenModel:
    """How the inference thread loads a bundle."""

    @contextmanager
    def opened() -> Iterator[LoadedModel]:
        with open_pipeline() as pipeline:
            yield LoadedModel(pipeline, _facts_of(pipeline, max_tiles))

    return opened


def _facts_of(pipeline: Pipeline, max_tiles: int | None) -> ModelFacts:
    manifest = pipeline.bundle.manifest
    budget = 1 if manifest.image.mode == "resize" else with_max_tiles(manifest.image, max_tiles).max_tiles
    return ModelFacts(bundle=manifest.name, takes_depth=manifest.image.depth is not None, tile_budget=budget)
