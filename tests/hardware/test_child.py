"""Children: how each kind of end is told, and that no child runs code from the folder the user stands in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardware.camera import recording_check
from hardware.camera.recording_check import prove_recording
from hardware.child import CANNOT_START, ChildResult, run_command, run_module, start_module
from hardware.errors import DeviceError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("code", "returncode", "stdout", "last_words"),
    [
        pytest.param("print('yes')", 0, "yes\n", "no message", id="well"),
        pytest.param("import sys; sys.exit('first\\nlast')", 1, "", "last", id="with a message"),
        pytest.param("import os; os.abort()", -6, "", "no message", id="crash"),
        pytest.param("import sys; print(sys.stdin.read() == '')", 0, "True\n", "no message", id="no input"),
        pytest.param("import os; os.write(1, b'\\xff')", 0, "�", "no message", id="no text"),
    ],
)
def test_the_end_of_a_child_is_told(code: str, returncode: int, stdout: str, last_words: str) -> None:
    child = run_command(python(code), timeout_s=30)
    assert (child.returncode, child.stdout, child.last_words) == (returncode, stdout, last_words)
    assert not child.timed_out


def test_a_child_that_was_started_finds_our_modules_and_stands_in_the_root_folder() -> None:
    with start_module("site", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        out, _ = child.communicate(timeout=60)  # prints the folders that modules are looked for in
    folders = [line.strip(" ',") for line in out.decode().splitlines()]
    assert str(Path(__file__).resolve().parents[2]) in folders
    assert "/" not in folders


def test_a_hanging_child_is_stopped() -> None:
    assert run_command(python("import time; time.sleep(60)"), timeout_s=0.5).timed_out


def test_a_program_that_is_not_there_is_told() -> None:
    child = run_command(["/none/such"], timeout_s=5)
    assert child.returncode == CANNOT_START
    assert child.last_words == "/none/such cannot be started: No such file or directory"


def test_more_environment_is_passed_on() -> None:
    code = "import os; print(os.environ['ASKED'], 'PATH' in os.environ)"
    assert run_command(python(code), timeout_s=30, environment={"ASKED": "for"}).stdout == "for True\n"


# --- whose code runs ------------------------------------------------------------------------------------

STRANGE = "raise SystemExit('code from the current folder ran')"


@pytest.fixture
def strange_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with packages named like ours and like one of the standard library."""
    for name in ("hardware", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(STRANGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("strange_folder")
@pytest.mark.parametrize("first_entry", [None, ""], ids=["as it is", "started with -c"])
def test_code_in_the_current_folder_does_not_run(monkeypatch: pytest.MonkeyPatch, first_entry: str | None) -> None:
    if first_entry is not None:
        monkeypatch.setattr(sys, "path", [first_entry, *sys.path])
    child = run_module("hardware.camera.recording_check", "/none.db3", timeout_s=30)
    assert (child.returncode, child.stderr) == (0, "")


def test_the_folder_does_bite(strange_folder: Path) -> None:
    """Without our care it would have run; else the test above proves nothing."""
    command = [sys.executable, "-m", "hardware.camera.recording_check", "/none.db3"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    child = subprocess.run(command, cwd=strange_folder, env=environment, capture_output=True, text=True, check=False)
    assert "code from the current folder ran" in child.stderr


# --- a proof needs a word of the child ----------------------------------------------------------------------


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true", "/none/such"])
def test_a_child_that_did_not_try_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(DeviceError, match=r"clip\.db3 could not be tried"):
        prove_recording(tmp_path / "clip.db3")


def test_the_child_gets_the_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands elsewhere; a file it does not find would be proven without being opened."""
    asked: list[str] = []

    def run_nothing(_name: str, *args: str, timeout_s: float) -> ChildResult:
        asked.extend(args)
        return ChildResult(0, recording_check.PROVEN, "")

    monkeypatch.setattr(recording_check, "run_module", run_nothing)
    monkeypatch.chdir(tmp_path)
    prove_recording(Path("clip.bag"))
    assert asked == [str(tmp_path.resolve() / "clip.bag")]
