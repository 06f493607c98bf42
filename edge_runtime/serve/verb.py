"""`roborefer-edge serve`: bundle, token and address put together, until somebody interrupts."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edge_runtime.bundle import default_bundle, open_bundle
from edge_runtime.config import RunConfig, read_config
from edge_runtime.errors import ConfigError
from edge_runtime.estimating import estimates_depth
from edge_runtime.preprocess import with_max_tiles
from edge_runtime.serve.app import build_app
from edge_runtime.serve.door import check_bind, read_token
from edge_runtime.serve.inference import InferenceThread, LoadedModel, OpenModel
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.listening import bound_socket, make_server
from edge_runtime.serve.live import LiveSide
from edge_runtime.serve.questions import ModelFacts
from edge_runtime.worker import InferenceWorker
from hardware.camera.process import OPENER
from hardware.camera.recovery import RecoveryPolicy
from hardware.watchdog import Notifier

_log = logging.getLogger(__name__)

LIVE_KINDS: Final = ("realsense", "software")
# Who looks at the page shall see that the camera is lost, and see it come back; `run` gives up at some time.
UNTIRING: Final = RecoveryPolicy(budget=10**9)


@dataclass(frozen=True)
class ServeRequest:
    """Where to listen and for whom, and which camera is looked through."""

    host: str = "127.0.0.1"
    port: int = 25547
    token_file: Path | None = None
    bundle: Path | None = None  # default: as for every verb
    max_tiles: int | None = None  # tile budget per picture; default: the manifest's
    n_threads: int | None = None  # of each native library
    camera: str | None = None  # realsense[:SERIAL], software[:FOLDER]; None: pictures of requests alone
    base_from_camera: Path | None = None
    config: Path | None = None  # of `run`: camera, tracking, first questions
    limits: ServeLimits = field(default_factory=ServeLimits)


def serve(request: ServeRequest, *, say: Callable[[str], None], opener: str = OPENER) -> None:
    """Answer until interrupted. Under systemd (Type=notify) it is told when the model is warm, and when we leave.

    Args:
        request: Where and for whom.
        say: Tells a person the address.
        opener: Of the live camera, `module:name`, called in the camera's process.

    Raises:
        ConfigError: A bind to the network without a token, a bad token file, or no live camera.
        CameraError: There is no such camera, or it was given up.
        DeviceError: The address cannot be had.
        EdgeError: The bundle cannot be loaded.
    """
    token = None if request.token_file is None else read_token(request.token_file)
    check_bind(request.host, has_token=token is not None)
    config = _run_config(request)
    with Notifier.from_environment() as systemd, bound_socket(request.host, request.port) as listening:
        host, port = listening.getsockname()[:2]
        live = None if config is None else _live_side(config, request, opener, on_end=lambda: server.stop())  # noqa: PLW0108
        thread = InferenceThread(
            _model_of(request)
            if live is None
            else live.open_model(lambda model: facts_of(model.bundle, model.max_tiles)),
            places=request.limits.queue,
            waiting_pixels=request.limits.waiting_pixels,
            on_ready=lambda: systemd.ready(f"answering on {host} port {port}"),
            on_end=lambda: server.stop(),  # noqa: PLW0108 - the server is made below
        )
        server = make_server(build_app(thread=thread, limits=request.limits, token=token, live=live), request.limits)
        if live is not None:
            live.start()
        thread.start()
        shown = f"[{host}]" if ":" in host else host
        say(f"listening on http://{shown}:{port} ({'token needed' if token else 'this machine only'})")
        try:
            server.run(sockets=[listening])
        finally:
            if not thread.stop():
                _log.warning("the model did not come back; leaving without it")
            if live is not None and not live.stop():
                _log.warning("the live loop did not come back; leaving without it")
    for failure in (None if live is None else live.failure, thread.failure):
        if failure is not None:
            raise failure


def _run_config(request: ServeRequest) -> RunConfig | None:
    """What the live loop works with; None: no camera.

    Raises:
        ConfigError: The config is wrong, or the camera is no live one.
    """
    if request.camera is None and request.config is None:
        return None
    config = read_config(request.config) if request.config else _untiring(RunConfig())
    camera = replace(
        config.camera,
        source=request.camera or config.camera.source,
        base_from_camera=request.base_from_camera or config.camera.base_from_camera,
    )
    if camera.source.partition(":")[0] not in LIVE_KINDS:
        raise ConfigError(
            f"{camera.source} is no live camera: serve takes realsense, realsense:SERIAL, software, and "
            "software:FOLDER, which plays a replay folder as a camera"
        )
    model = replace(
        config.model,
        bundle=request.bundle or config.model.bundle,
        max_tiles=request.max_tiles or config.model.max_tiles,
        threads=request.n_threads or config.model.threads,
    )
    return replace(config, camera=camera, model=model)


def _untiring(config: RunConfig) -> RunConfig:
    return replace(config, camera=replace(config.camera, recovery=UNTIRING))


def _live_side(config: RunConfig, request: ServeRequest, opener: str, on_end: Callable[[], None]) -> LiveSide:
    return LiveSide(config, watchers=request.limits.watchers, opener=opener, on_end=on_end)


def _model_of(request: ServeRequest) -> OpenModel:
    bundle = request.bundle or default_bundle()
    return model_of(bundle, max_tiles=request.max_tiles, n_threads=request.n_threads)


def model_of(bundle: Path, *, max_tiles: int | None = None, n_threads: int | None = None) -> OpenModel:
    """How the inference thread loads a bundle: into a process of its own.

    The event loop cannot slow the model down there, and native code that crashes or hangs costs one question.
    """

    @contextmanager
    def opened() -> Iterator[LoadedModel]:
        with InferenceWorker(bundle, max_tiles=max_tiles, n_threads=n_threads) as worker:
            facts = facts_of(bundle, max_tiles)  # after the worker has hashed the files
            yield LoadedModel(worker, facts, is_usable=lambda: worker.state != "failed")

    return opened


def facts_of(bundle: Path, max_tiles: int | None) -> ModelFacts:
    """What clients may know of a bundle that is loaded."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    budget = 1 if manifest.image.mode == "resize" else with_max_tiles(manifest.image, max_tiles).max_tiles
    return ModelFacts(
        bundle=manifest.name,
        takes_depth=manifest.image.depth is not None,
        estimates_depth=estimates_depth(opened),
        tile_budget=budget,
    )
