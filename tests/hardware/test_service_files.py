"""The unit and the files beside it, as systemd's own tools read them; put and removed under a root again and again."""

import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from edge_runtime.run import OPEN_MS
from hardware.camera.recovery import RecoveryPolicy
from hardware.errors import StorageError
from hardware.service_files import (
    MARK,
    SYSUSERS_PATH,
    TMPFILES_PATH,
    UDEV_PATH,
    UNIT,
    UNIT_PATH,
    USER,
    WANTED_PATH,
    ServiceFile,
    disable,
    enable,
    from_template,
    put,
    remove,
    service_files,
    under,
)

MAX_EXPOSURE = 3.0
FILES = {file.path: file.content for file in service_files(PurePosixPath("/bin/true"), cpu_limit=3)}


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    path = tmp_path / UNIT
    path.write_text(FILES[UNIT_PATH])
    return path


def test_the_watchdog_outlasts_the_longest_pause_between_two_tries_of_a_lost_camera() -> None:
    watchdog_s = int(re.findall(r"^WatchdogSec=(\d+)s$", FILES[UNIT_PATH], re.MULTILINE)[0])
    assert watchdog_s > max(RecoveryPolicy().backoff_s) + OPEN_MS / 1000


# --- as systemd reads them ----------------------------------------------------------------------------


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = run(tool("systemd-analyze"), "verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_tell_of_a_wrong_unit(unit: Path) -> None:
    unit.write_text(FILES[UNIT_PATH].replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in run(tool("systemd-analyze"), "verify", "--man=no", str(unit)).stderr


def test_the_sandbox_is_tight(unit: Path) -> None:
    analyze = tool("systemd-analyze")
    done = run(analyze, "security", "--offline=true", f"--threshold={int(MAX_EXPOSURE * 10)}", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze before 250 does not judge files")
    exposure = re.search(r"Overall exposure level .*: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= MAX_EXPOSURE
    assert done.returncode == 0


def test_the_user_gets_the_groups_of_cameras_and_gpus(tmp_path: Path) -> None:
    put(ServiceFile(SYSUSERS_PATH, FILES[SYSUSERS_PATH]), tmp_path)
    done = run(tool("systemd-sysusers"), f"--root={tmp_path}", str(under(tmp_path, SYSUSERS_PATH)))
    assert done.returncode == 0, done.stderr
    passwd = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^roborefer:x:\d+:\d+:RoboRefer Edge:/var/lib/roborefer-edge:\S*nologin$", passwd, re.MULTILINE)
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    assert all(groups[name].endswith(":roborefer") for name in ("video", "render", "plugdev"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to another user")
def test_the_folders_belong_to_the_user(tmp_path: Path) -> None:
    for file in service_files(PurePosixPath("/bin/true")):
        put(file, tmp_path)
    assert run(tool("systemd-sysusers"), f"--root={tmp_path}", str(under(tmp_path, SYSUSERS_PATH))).returncode == 0
    done = run(tool("systemd-tmpfiles"), "--create", f"--root={tmp_path}", str(under(tmp_path, TMPFILES_PATH)))
    assert done.returncode == 0, done.stderr
    line = next(line for line in (tmp_path / "etc/passwd").read_text().splitlines() if line.startswith(USER))
    user = int(line.split(":")[2])
    kept = {path: (tmp_path / path).stat() for path in ("etc/roborefer-edge", "var/lib/roborefer-edge")}
    logs = (tmp_path / "var/log/roborefer-edge").stat()
    assert [stat.st_uid for stat in kept.values()] == [0, user]
    assert (logs.st_uid, logs.st_mode & 0o777) == (user, 0o750)


def test_the_camera_rule_is_one_that_udev_takes(tmp_path: Path) -> None:
    rules = tmp_path / "70-test.rules"
    rules.write_text(FILES[UDEV_PATH])
    done = run(tool("udevadm"), "verify", str(rules))
    if "Unknown command" in done.stderr:
        pytest.skip("udevadm before 254 cannot verify rules")
    assert done.returncode == 0, done.stderr


def test_the_camera_rule_is_pairs_of_keys_and_values() -> None:
    lines = [line for line in FILES[UDEV_PATH].splitlines() if line and not line.startswith("#")]
    assert len(lines) == 2
    pair = r'[A-Z]+(\{[\w/]+\})?(==|=|\+=)"[^"]*"'
    assert all(re.fullmatch(rf"{pair}(, {pair})*", line) for line in lines)


# --- what they say ------------------------------------------------------------------------------------


def test_every_name_in_the_templates_is_filled() -> None:
    assert all(not re.search(r"@[A-Z_]+@", content) and MARK in content for content in FILES.values())


def test_the_unit_runs_what_it_was_told() -> None:
    lines = FILES[UNIT_PATH].splitlines()
    assert (
        "ExecStart=/bin/true -v run --config /etc/roborefer-edge/run.toml --questions /run/roborefer-edge/questions"
        in lines
    )
    assert "CPUQuota=300%" in lines
    unlimited = service_files(PurePosixPath("/bin/true"))[0].content
    assert "CPUQuota=" not in unlimited.replace("# No CPUQuota", "")


# --- under a root -------------------------------------------------------------------------------------


def test_put_and_remove_end_in_the_same_state_every_time(tmp_path: Path) -> None:
    file = ServiceFile(UNIT_PATH, f"# {MARK}\none")
    place = under(tmp_path, UNIT_PATH)
    assert [put(file, tmp_path, dry_run=True), put(file, tmp_path), put(file, tmp_path)] == ["new", "new", "same"]
    assert place.stat().st_mode & 0o777 == 0o644
    other = ServiceFile(UNIT_PATH, f"# {MARK}\ntwo")
    assert [put(other, tmp_path, dry_run=True), place.read_text()] == ["replaced", file.content]
    assert [put(other, tmp_path), place.read_text()] == ["replaced", other.content]
    assert [remove(UNIT_PATH, tmp_path, dry_run=True), place.exists()] == ["removed", True]
    assert [remove(UNIT_PATH, tmp_path), remove(UNIT_PATH, tmp_path)] == ["removed", "absent"]


def test_what_somebody_else_wrote_is_left_alone(tmp_path: Path) -> None:
    place = under(tmp_path, UNIT_PATH)
    place.parent.mkdir(parents=True)
    place.write_text("[Service]\nExecStart=/mine")
    for act in (lambda: put(ServiceFile(UNIT_PATH, MARK), tmp_path), lambda: remove(UNIT_PATH, tmp_path)):
        with pytest.raises(StorageError, match="was not written by us"):
            act()
    assert place.read_text() == "[Service]\nExecStart=/mine"


def test_enabling_is_the_link_that_systemctl_makes(tmp_path: Path) -> None:
    assert [enable(tmp_path, dry_run=True), enable(tmp_path), enable(tmp_path)] == ["new", "new", "same"]
    assert under(tmp_path, WANTED_PATH).readlink() == Path(UNIT_PATH)
    put(service_files(PurePosixPath("/bin/true"))[0], tmp_path)
    assert run(tool("systemctl"), f"--root={tmp_path}", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert [disable(tmp_path, dry_run=True), disable(tmp_path), disable(tmp_path)] == ["removed", "removed", "absent"]


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file where a folder belongs")
    with pytest.raises(StorageError, match="cannot write"):
        put(ServiceFile(UNIT_PATH, MARK), tmp_path)


def test_templates_are_shipped_beside_the_code() -> None:
    assert "instructions = @INSTRUCTIONS@" in from_template("run.toml.in", {})
