"""Who may listen and who may ask: binds, token files, the verb without its extra."""

import base64
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bench.serve_child import running_server
from edge_runtime.errors import ConfigError
from edge_runtime.serve.client import EdgeClient
from edge_runtime.serve.door import Door, check_bind, is_loopback, read_token
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.listening import bound_socket
from edge_runtime.serve.refusals import NotAllowed
from hardware.errors import DeviceError

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    check_bind(host, has_token=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "robot.local", "", "localhost.evil.example"])
def test_the_network_does(host: str) -> None:
    with pytest.raises(ConfigError, match="--token-file"):
        check_bind(host, has_token=False)
    check_bind(host, has_token=True)


def token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_token_is_the_line_of_its_file(tmp_path: Path) -> None:
    assert read_token(token_file(tmp_path, f"{TOKEN}\n")) == TOKEN


@pytest.mark.parametrize(
    ("text", "mode"),
    [("", 0o600), ("short", 0o600), ("two words of a token", 0o600), (f"{TOKEN}\n{TOKEN}", 0o600),
     ("tökentokentoken!", 0o600), ("x" * 600, 0o600), (TOKEN, 0o644)],
    ids=["empty", "short", "space", "two lines", "not ASCII", "long", "readable by all"],
)  # fmt: skip
def test_bad_token_file_is_refused_by_name(tmp_path: Path, text: str, mode: int) -> None:
    path = token_file(tmp_path, text, mode)
    with pytest.raises(ConfigError, match="token"):
        read_token(path)


def test_missing_token_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing-here"):
        read_token(tmp_path / "nothing-here")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic", "Basic x", "Basic cm9ib3Q=", "Digest a", f"Token {TOKEN}", "Bearer \u00e4" * 99],
)
def test_rubbish_is_no_token(header: str) -> None:
    with pytest.raises(NotAllowed):
        Door(TOKEN).let_in("/query", {"authorization": header}, "1.2.3.4")


def test_names_tell_clients_of_one_address_apart() -> None:
    door = Door(TOKEN)
    arm = door.let_in("/", {"authorization": f"Basic {_basic('arm')}"}, "1.2.3.4")
    base = door.let_in("/", {"authorization": f"Basic {_basic('base')}"}, "1.2.3.4")
    assert arm != base


@pytest.mark.parametrize("limits", [{"queue": 0}, {"deadline_s": float("nan")}, {"bodies_bytes": 1}], ids=str)
def test_limits_that_nothing_passes_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ServeLimits(**limits)  # type: ignore[arg-type]


def test_verb_listens_answers_and_leaves_when_told(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tells systemd, where it runs under it: READY when the model is warm, STOPPING when it goes."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        with (
            running_server("--threads", "1", "--queue", "3") as server,
            EdgeClient(server.url) as c,
        ):
            assert c.state().places == 3
            assert c.refer(photo.read_bytes(), "Point to the blue cup.").valid
            assert systemd.recv(4096).decode().splitlines() == [
                "READY=1", f"STATUS=answering on 127.0.0.1 port {server.port}",
            ]  # fmt: skip
        assert systemd.recv(4096).decode().startswith("STOPPING=1")


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--host", "0.0.0.0"], 2, "--token-file"),
        (["--bundle", "/nowhere"], 3, "/nowhere"),
        (["--camera", "clip.mcap"], 2, "no live camera"),
        pytest.param(["--camera", "software:/nowhere"], 4, "/nowhere", marks=pytest.mark.slow),
    ],
    ids=["network without token", "no bundle", "a recording as camera", "no camera"],
)
def test_verb_refuses_with_the_exit_codes_of_all_verbs(flags: list[str], status: int, said: str) -> None:
    command = [sys.executable, "-m", "edge_runtime.cli", "serve", "--port", "0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_said_before_anything_is_served() -> None:
    with bound_socket("127.0.0.1", 0) as first, pytest.raises(DeviceError, match="cannot listen"):
        bound_socket("127.0.0.1", first.getsockname()[1])


def test_verb_without_its_extra_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['x', 'serve']; import edge_runtime.cli as c; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "roborefer-edge[serve]" in done.stderr


def _basic(name: str) -> str:
    return base64.b64encode(f"{name}:{TOKEN}".encode()).decode()
