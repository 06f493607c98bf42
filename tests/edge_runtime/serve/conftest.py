"""A real server on a free port of this machine, with nano behind it, for everything that speaks HTTP."""

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra serve")

from edge_runtime.config import CameraConfig, ModelConfig, RunConfig
from edge_runtime.degrade import DegradeSettings
from edge_runtime.serve.app import build_app
from edge_runtime.serve.inference import InferenceThread
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.listening import bound_socket, make_server
from edge_runtime.serve.live import LiveSide
from edge_runtime.serve.verb import facts_of, model_of
from edge_runtime.track_asking import AskSettings
from hardware.camera.recovery import RecoveryPolicy
from tests.conftest import REPOSITORY
from tests.edge_runtime.serve.switched_camera import OPENER

NANO = REPOSITORY / "models" / "nano" / "bundle"
CLIP = REPOSITORY / "models" / "nano" / "demo"
TOKEN = "a-token-of-the-tests-0123456789"
LIMITS = ServeLimits(queue=8, sending_s=1.5, deadline_s=60.0, watchers=4)


@dataclass(frozen=True)
class Served:
    """Where a server listens."""

    port: int
    thread: InferenceThread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Listen = Callable[..., "Served"]


@dataclass(frozen=True)
class Live:
    """A server with a camera that can be unplugged."""

    served: Served
    side: LiveSide
    unplugged: Path  # make this file, and the camera is gone


@contextmanager
def listening(
    thread: InferenceThread, *, limits: ServeLimits = LIMITS, token: str | None = None, live: LiveSide | None = None
) -> Iterator[Served]:
    """A server in a thread of this process, in front of an inference thread that is running."""
    with bound_socket("127.0.0.1", 0) as bound:
        server = make_server(build_app(thread=thread, limits=limits, token=token, live=live), limits)
        running = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        running.start()
        try:
            wait_until(lambda: server.started)
            yield Served(bound.getsockname()[1], thread)
        finally:
            server.stop()
            running.join(20)


def wait_until(true: Callable[[], object], *, limit_s: float = 60.0) -> None:
    """Look until it is so; fail if it never is."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="package")
def nano_thread() -> Iterator[InferenceThread]:
    """The shipped bundle, loaded once."""
    thread = InferenceThread(
        model_of(NANO, n_threads=1),
        places=LIMITS.queue,
        waiting_pixels=LIMITS.waiting_pixels,
    )
    thread.start()
    wait_until(lambda: thread.state != "loading")
    assert thread.state == "ready", thread.failure
    yield thread
    assert thread.stop()


@pytest.fixture(scope="package")
def served(nano_thread: InferenceThread) -> Iterator[Served]:
    """Open to this machine."""
    with listening(nano_thread) as found:
        yield found


@pytest.fixture(scope="package")
def guarded(nano_thread: InferenceThread) -> Iterator[Served]:
    """The same model behind a token."""
    with listening(nano_thread, token=TOKEN) as found:
        yield found


@contextmanager
def looking(unplugged: Path, *, degrade: DegradeSettings = DegradeSettings()) -> Iterator[Live]:  # noqa: B008
    """A server in front of nano and of a camera that plays the demo clip."""
    config = RunConfig(
        model=ModelConfig(bundle=NANO, threads=1),
        camera=CameraConfig(source=f"{CLIP}?{unplugged}", recovery=RecoveryPolicy(backoff_s=(0.2,), budget=10**6)),
        ask=AskSettings(period_ms=600.0),
        degrade=degrade,
    )
    side = LiveSide(config, watchers=LIMITS.watchers, opener=OPENER)
    thread = InferenceThread(
        side.open_model(lambda model: facts_of(model.bundle, model.max_tiles)), places=8, waiting_pixels=10**8
    )
    side.start()
    thread.start()
    try:
        wait_until(lambda: thread.state != "loading", limit_s=120)
        assert thread.state == "ready", side.failure or thread.failure
        with listening(thread, live=side) as served:
            yield Live(served, side, unplugged)
    finally:
        assert thread.stop()
        assert side.stop()


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Open to this machine, with a camera."""
    with looking(tmp_path_factory.mktemp("camera") / "unplugged") as found:
        yield found


@pytest.fixture(scope="package")
def photo() -> Path:
    """A frame of the demo clip, 640x480 JPEG."""
    return CLIP / "rgb" / "000000.jpg"


@pytest.fixture(scope="package")
def depth_file() -> Path:
    """Its depth, 16-bit PNG in counts of the clip's unit."""
    return CLIP / "depth" / "000000.png"


def png(width: int = 64, height: int = 48, *, seed: int = 0) -> bytes:
    """A small picture of noise."""
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue()


def b64(data: bytes) -> str:
    """As it travels in JSON."""
    return base64.b64encode(data).decode()
