"""`roborefer-edge serve`: bundle, token and address put together, until somebody interrupts."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.bundle import default_bundle, open_bundle
from edge_runtime.preprocess import with_max_tiles
from edge_runtime.serve.app import build_app
from edge_runtime.serve.door import check_bind, read_token
from edge_runtime.serve.inference import InferenceThread, LoadedModel, OpenModel
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.listening import bound_socket, make_server
from edge_runtime.serve.questions import ModelFacts
from edge_runtime.worker import InferenceWorker

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeRequest:
    """Where to listen and for whom."""

    host: str = "127.0.0.1"
    port: int = 25547
    token_file: Path | None = None
    bundle: Path | None = None  # default: as for every verb
    max_tiles: int | None = None  # tile budget per picture; default: the manifest's
    n_threads: int | None = None  # of each native library
    limits: ServeLimits = field(default_factory=ServeLimits)


def serve(request: ServeRequest, *, say: Callable[[str], None]) -> None:
    """Answer until interrupted.

    Args:
        request: Where and for whom.
        say: Tells a person the address.

    Raises:
        ConfigError: A bind to the network without a token, or a bad token file.
        DeviceError: The address cannot be had.
        EdgeError: The bundle cannot be loaded.
    """
    token = None if request.token_file is None else read_token(request.token_file)
    check_bind(request.host, has_token=token is not None)
    bundle = request.bundle or default_bundle()
    with bound_socket(request.host, request.port) as listening:
        host, port = listening.getsockname()[:2]
        thread = InferenceThread(
            model_of(bundle, max_tiles=request.max_tiles, n_threads=request.n_threads),
            places=request.limits.queue,
            waiting_pixels=request.limits.waiting_pixels,
            on_end=lambda: server.stop(),  # noqa: PLW0108 - the server is made below
        )
        server = make_server(build_app(thread=thread, limits=request.limits, token=token), request.limits)
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


def model_of(bundle: Path, *, max_tiles: int | None = None, n_threads: int | None = None) -> OpenModel:
    """How the inference thread loads a bundle: into a process of its own.

    The event loop cannot slow the model down there, and native code that crashes or hangs costs one question.
    """

    @contextmanager
    def opened() -> Iterator[LoadedModel]:
        with InferenceWorker(bundle, max_tiles=max_tiles, n_threads=n_threads) as worker:
            facts = _facts_of(bundle, max_tiles)  # after the worker has hashed the files
            yield LoadedModel(worker, facts, is_usable=lambda: worker.state != "failed")

    return opened


def _facts_of(bundle: Path, max_tiles: int | None) -> ModelFacts:
    manifest = open_bundle(bundle).manifest
    budget = 1 if manifest.image.mode == "resize" else with_max_tiles(manifest.image, max_tiles).max_tiles
    return ModelFacts(bundle=manifest.name, takes_depth=manifest.image.depth is not None, tile_budget=budget)
