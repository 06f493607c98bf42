"""`roborefer-edge service` on images under a prefix: checks before changes, the same end every time, nothing lost."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_runtime.config import read_config
from edge_runtime.errors import ConfigError, DeviceError, StorageError
from edge_runtime.log_lines import JournalFormatter, is_journal
from edge_runtime.service.installation import InstallRequest, install, uninstall, unit_text
from edge_runtime.service.program import check_program
from edge_runtime.service.record import Outcome
from edge_runtime.service.status import service_status
from edge_runtime.service.system import NOT_BOOTED, tell
from edge_runtime.service.verb import app
from hardware.service_files import CONFIG_PATH, UNIT_PATH, WANTED_PATH, under
from tests.flow.command_line import keeps_schema

PROGRAM = PurePosixPath("/opt/roborefer-edge/bin/roborefer-edge")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A system image with a program, whose Python is reached over two links as in a virtual environment."""
    folder = under(tmp_path, PROGRAM.parent)
    folder.mkdir(parents=True)
    python = tmp_path / "usr/bin/python3.12"
    python.parent.mkdir(parents=True)
    python.write_bytes(b"\x7fELF")
    python.chmod(0o755)
    (folder / "python3").symlink_to("/usr/bin/python3")
    (tmp_path / "usr/bin/python3").symlink_to("python3.12")
    program = under(tmp_path, PROGRAM)
    program.write_text(f"#!{PROGRAM.parent}/python3\nraise SystemExit\n")
    program.chmod(0o755)
    return tmp_path


def asked(image: Path, *instructions: str, **more: Any) -> InstallRequest:
    return InstallRequest(instructions=instructions, program=PROGRAM, root=image, **more)


def states(outcome: Outcome) -> dict[str, str]:
    return {file.path: file.state for file in outcome.files}


def everything(image: Path) -> dict[str, object]:
    """Every file and link of an image with its content."""
    found = (path for path in image.rglob("*") if path.is_symlink() or path.is_file())
    return {str(p.relative_to(image)): str(p.readlink()) if p.is_symlink() else p.read_bytes() for p in found}


# --- install ------------------------------------------------------------------------------------------


def test_install_twice_is_install_once(image: Path) -> None:
    first = install(asked(image, 'the "red" cup', "der Löffel", camera="software"))
    after_first = everything(image)
    second = install(asked(image))
    assert set(states(first).values()) == {"new"}
    assert set(states(second).values()) == {"same", "kept"}
    after_second = everything(image)
    backups = {name for name in after_second if name.endswith("-")}  # what systemd-sysusers keeps of its files
    assert {name: after_second[name] for name in after_second.keys() - backups} == {
        name: after_first[name] for name in after_first.keys() - backups
    }
    config = read_config(under(image, CONFIG_PATH))
    assert (config.instructions, config.camera.source) == (('the "red" cup', "der Löffel"), "software")
    assert f"ExecStart={PROGRAM} -v run --config {CONFIG_PATH} " in under(image, UNIT_PATH).read_text()


def test_a_dry_run_says_what_install_does_and_changes_nothing(image: Path) -> None:
    before = everything(image)
    planned = install(asked(image, "the cup", dry_run=True))
    assert everything(image) == before
    assert states(install(asked(image, "the cup"))) == states(planned)
    assert [told.skipped for told in planned.commands] == ["dry run"]


def test_another_program_replaces_the_unit_alone(image: Path) -> None:
    install(asked(image, "the cup"))
    outcome = install(asked(image, cpu_limit=2))
    assert {path for path, state in states(outcome).items() if state == "replaced"} == {str(UNIT_PATH)}


def test_the_config_of_the_user_is_kept_and_checked(image: Path) -> None:
    place = under(image, CONFIG_PATH)
    place.parent.mkdir(parents=True)
    place.write_text('instructions = ["mine"]\n')
    with pytest.raises(ConfigError, match="is there already and is kept"):
        install(asked(image, "the cup"))
    install(asked(image))
    assert place.read_text() == 'instructions = ["mine"]\n'
    for wrong, said in (("camra = 1", "did you mean 'camera'"), ("", "has no instructions")):
        place.write_text(wrong)
        with pytest.raises(ConfigError, match=said):
            install(asked(image))


def test_there_must_be_something_to_point_at(image: Path) -> None:
    with pytest.raises(ConfigError, match="say what to point at"):
        install(asked(image))
    assert not under(image, UNIT_PATH).exists()


def test_a_strangers_file_stops_the_whole(image: Path) -> None:
    stranger = image / "etc/udev/rules.d/70-roborefer-edge.rules"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("mine")
    before = everything(image)
    with pytest.raises(StorageError, match="was not written by us"):
        install(asked(image, "the cup"))
    assert everything(image) == before


# --- the program --------------------------------------------------------------------------------------


def test_a_program_behind_links_in_the_image_is_fine(image: Path) -> None:
    check_program(PROGRAM, image)


@pytest.mark.parametrize("home", ["/home/robot/checkout/.venv/bin", "/root/bin", "/tmp/bin"])
def test_a_program_that_the_sandbox_hides(image: Path, home: str) -> None:
    program = PurePosixPath(home, "roborefer-edge")
    under(image, program).parent.mkdir(parents=True)
    shutil.copy(under(image, PROGRAM), under(image, program))
    with pytest.raises(ConfigError, match=r"which the service cannot see; hardware/deploy/install\.sh"):
        check_program(program, image)


def test_a_python_that_the_sandbox_hides(image: Path) -> None:
    link = image / "usr/bin/python3"
    link.unlink()
    link.symlink_to("/home/robot/.pyenv/versions/3.12.1/bin/python3")
    with pytest.raises(ConfigError, match=r"/home/robot/\.pyenv/versions/3\.12\.1/bin/python3, which .* runs with"):
        check_program(PROGRAM, image)


def test_a_link_that_leads_nowhere(image: Path) -> None:
    program = under(image, PROGRAM)
    program.unlink()
    program.symlink_to("/opt/gone")
    with pytest.raises(ConfigError, match=r"/opt/gone, which .* runs with, is not there: no"):
        check_program(PROGRAM, image)
    program.unlink()
    with pytest.raises(ConfigError, match="there is no program"):
        check_program(PROGRAM, image)


def test_a_folder_that_other_users_may_not_enter(image: Path) -> None:
    (image / "opt/roborefer-edge").chmod(0o750)
    with pytest.raises(ConfigError, match="opt/roborefer-edge is closed to other users; chmod o\\+rx"):
        check_program(PROGRAM, image)


@pytest.mark.parametrize(
    ("program", "said"),
    [("bin/roborefer-edge", "is relative"), ("/nowhere/x", "there is no program"), ("/opt/my robot/x", "characters")],
)
def test_programs_that_no_unit_can_name(image: Path, program: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_program(PurePosixPath(program), image)


# --- uninstall ----------------------------------------------------------------------------------------


def test_uninstall_leaves_what_is_the_users(image: Path) -> None:
    before = set(everything(image))
    install(asked(image, "the cup"))
    recording = image / "var/log/roborefer-edge/run.mcap"
    recording.parent.mkdir(parents=True)
    recording.write_bytes(b"frames")
    outcome = states(uninstall(image))
    assert outcome[str(UNIT_PATH)] == outcome[str(WANTED_PATH)] == "removed"
    left = {name for name in everything(image) if "etc/" not in name or "roborefer" in name}
    assert left - before == {"etc/roborefer-edge/run.toml", "var/log/roborefer-edge/run.mcap"}
    assert set(states(uninstall(image)).values()) == {"absent", "kept"}
    assert states(uninstall(image, purge=True))["/var/log/roborefer-edge"] == "removed"
    assert not recording.exists()


def test_uninstall_can_be_looked_at_first(image: Path) -> None:
    install(asked(image, "the cup"))
    before = everything(image)
    planned = uninstall(image, purge=True, dry_run=True)
    assert everything(image) == before
    assert states(planned) == states(uninstall(image, purge=True))


# --- the running system -------------------------------------------------------------------------------


def test_commands_to_a_system_that_is_not_there_are_told_and_not_run() -> None:
    told = tell([("systemctl", "daemon-reload"), ("no-such-tool-of-systemd", "x")], booted=False, dry_run=False)
    assert [one.skipped for one in told] == [NOT_BOOTED, "no-such-tool-of-systemd is not installed here"]


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"false --now failed \(1\)"):
        tell([("false", "--now")], booted=True, dry_run=False)


def test_only_root_changes_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="sudo"):
        uninstall(Path("/"))


def test_status_of_an_image(image: Path) -> None:
    install(asked(image, "the cup"))
    status = service_status(image)
    assert (status.installed, status.enabled, status.config, status.active) == (True, True, None, None)
    under(image, CONFIG_PATH).write_text("x = 1")
    uninstall(image)
    status = service_status(image)
    assert (status.installed, status.enabled) == (False, False)
    assert "unknown key 'x'" in str(status.config)


# --- the command line ---------------------------------------------------------------------------------


def test_json_keeps_its_schema(image: Path) -> None:
    runner = CliRunner()
    commands = (["install", "the cup", "--program", str(PROGRAM)], ["status"], ["uninstall", "--dry-run"])
    codes = []
    for command in commands:
        done = runner.invoke(app, [*command, "--root", str(image), "--json"])
        keeps_schema(json.loads(done.stdout), "service")
        codes.append(done.exit_code)
    assert codes == [0, 4, 0]


def test_print_is_the_unit_for_a_file() -> None:
    done = CliRunner().invoke(app, ["print", "--program", str(PROGRAM), "--cpu-limit", "2"])
    assert done.stdout == unit_text(InstallRequest(program=PROGRAM, cpu_limit=2))


def test_the_verb_is_listed_and_loaded_only_when_asked() -> None:
    program = "import sys; from edge_runtime import cli; sys.argv = ['x', *sys.argv[1:]]\n"
    program += "try: cli.main()\nfinally: print('loaded', 'edge_runtime.service' in sys.modules)"
    for arguments, loaded in ((["--help"], False), (["service", "--help"], True)):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert "service" in done.stdout
        assert f"loaded {loaded}" in done.stdout


# --- the journal --------------------------------------------------------------------------------------


def test_every_line_for_the_journal_has_its_priority() -> None:
    def said(level: int, message: str) -> str:
        return JournalFormatter().format(logging.LogRecord("loop", level, "x.py", 1, message, None, None))

    assert said(logging.ERROR, "lost\nTraceback") == "<3>loop: lost\n<3>Traceback"
    assert [said(level, "x")[:3] for level in (50, 30, 20, 10)] == ["<3>", "<4>", "<6>", "<7>"]


def test_the_journal_is_recognised_by_the_stream_it_gave() -> None:
    ours, _journal = socket.socketpair()
    with ours, _journal, ours.makefile("w") as stream:
        place = os.fstat(stream.fileno())
        assert is_journal(stream, {"JOURNAL_STREAM": f"{place.st_dev}:{place.st_ino}"})
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{place.st_dev}:{place.st_ino + 1}"})
        assert not is_journal(stream, {})
