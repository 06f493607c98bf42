"""The service on a machine that boots: READY, answers, reload, kill, hang, stop, start limit, uninstall.

A real systemd, the real unit in its sandbox, nano and the software camera: `booted_systemd` says how and where.
"""

import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.flow.booted_systemd import PYTHON, Machine, booted, missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

UNIT = "roborefer-edge.service"
PROGRAM = "/opt/roborefer-edge/bin/roborefer-edge"
CONFIG = "/etc/roborefer-edge/run.toml"
SOON_S = 150.0  # a watchdog's limit, a start, and a machine that is busy with other things
QUESTIONS = "/run/roborefer-edge/questions"
ANSWERS = "/var/log/roborefer-edge/answers.jsonl"
# An environment as install.sh makes it, with the packages of this one: no network, no compiler.
ENVIRONMENT = f"""
{PYTHON} -m venv --without-pip /opt/roborefer-edge
printf '/opt/checkout\\n/opt/packages\\n' >"$(echo /opt/roborefer-edge/lib/python3.*/site-packages)/project.pth"
printf '#!/opt/roborefer-edge/bin/python3\\nfrom edge_runtime.cli import main\\nmain()\\n' >{PROGRAM}
chmod 755 {PROGRAM}
"""
SEND = """
import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), sys.argv[2])
"""


def soon(machine: Machine, what: str, said: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SOON_S
    while not said():
        assert time.monotonic() < end, f"{what}: not within {SOON_S:g} s\n{journal(machine)[-4000:]}"
        time.sleep(0.2)


def is_active(machine: Machine) -> bool:
    return machine.show(UNIT, "ActiveState") == "active"


def journal(machine: Machine) -> str:
    return machine.run("journalctl", "-u", UNIT, "--no-pager", "-o", "cat")


def restarts(machine: Machine) -> int:
    return int(machine.show(UNIT, "NRestarts"))


def questions(machine: Machine) -> set[str]:
    """What was answered so far."""
    lines = machine.shell(f"cat {ANSWERS} 2>/dev/null || true").splitlines()
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return {record.get("instruction", "") for record in records if record["kind"] == "answer"}


def configure(machine: Machine, instruction: str) -> None:
    machine.shell(
        f"""cat >{CONFIG} <<'END'
instructions = ["{instruction}"]
sinks = ["jsonl:answers.jsonl"]
log_dir = "/var/log/roborefer-edge"
camera.source = "software"
END"""
    )


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine on which the service was installed and is active; tests go on where the one before ended."""
    with booted() as machine:
        machine.shell(ENVIRONMENT)
        machine.run(PROGRAM, "service", "install", "the red cup", "--camera", "software", "--no-start")
        configure(machine, "the red cup")
        machine.run(PROGRAM, "service", "install", "--json")
        soon(machine, "READY", lambda: is_active(machine))
        yield machine


def test_it_is_ready_after_an_answer_on_a_live_frame(machine: Machine) -> None:
    lines = machine.shell(f"head -n 50 {ANSWERS}").splitlines()
    assert any(json.loads(line)["kind"] == "answer" and json.loads(line)["valid"] for line in lines)
    status = json.loads(machine.run(PROGRAM, "service", "status", "--json").splitlines()[-1])
    assert (status["active"], status["enabled"], status["config"]) == ("active", True, None)
    assert status["says"]


def test_it_runs_as_nobodys_friend(machine: Machine) -> None:
    pid = machine.show(UNIT, "MainPID")
    told = machine.shell(f"cat /proc/{pid}/status")
    assert re.search(r"^NoNewPrivs:\s*1$", told, re.MULTILINE)
    assert re.search(r"^CapBnd:\s*0+$", told, re.MULTILINE)
    assert re.search(r"^Seccomp:\s*2$", told, re.MULTILINE)
    assert machine.shell(f"stat -c %U /proc/{pid}").strip() == "roborefer"
    assert machine.shell(f"stat -c '%U %a' {ANSWERS} /var/log/roborefer-edge").split() == [
        "roborefer", "640", "roborefer", "750",
    ]  # fmt: skip
    seen = machine.shell(f"nsenter -t {pid} -m sh -c 'ls -A /root /home; touch /usr/written 2>&1 || true'")
    assert seen.split("\n")[:3] == ["/home:", "", "/root:"]
    assert "Read-only file system" in seen


def test_a_new_config_is_taken_without_a_restart(machine: Machine) -> None:
    pid = machine.show(UNIT, "MainPID")
    configure(machine, "the blue bowl")
    machine.run("systemctl", "reload", UNIT)
    soon(machine, "the reload", lambda: "the blue bowl" in journal(machine))
    configure_broken = f"echo 'camra = 1' >>{CONFIG}"
    machine.shell(configure_broken)
    machine.run("systemctl", "reload", UNIT)
    soon(machine, "the refusal", lambda: "did you mean 'camera'" in journal(machine))
    assert (machine.show(UNIT, "MainPID"), is_active(machine)) == (pid, True)
    configure(machine, "the red cup")


def test_another_program_asks_something_else(machine: Machine) -> None:
    machine.shell("usermod -aG roborefer nobody")
    order = json.dumps({"do": "set", "text": "the yellow shoe"})
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--init-groups")

    def answered() -> bool:
        machine.run(*as_nobody, PYTHON, "-c", SEND, order, QUESTIONS)
        return "the yellow shoe" in questions(machine)

    soon(machine, "an answer", answered)


def test_a_killed_process_is_started_again(machine: Machine) -> None:
    before = restarts(machine)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    soon(machine, "the restart", lambda: restarts(machine) > before and is_active(machine))


def test_a_process_that_hangs_is_killed_and_started_again(machine: Machine) -> None:
    before = restarts(machine)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
    soon(machine, "the restart", lambda: restarts(machine) > before and is_active(machine))
    assert "Watchdog timeout" in journal(machine)


def test_it_stops_when_it_is_asked_and_leaves_nothing(machine: Machine) -> None:
    pid = machine.show(UNIT, "MainPID")
    machine.run("systemctl", "stop", UNIT)  # systemd kills what takes longer than five seconds, and Result says so
    assert (machine.show(UNIT, "ActiveState"), machine.show(UNIT, "Result")) == ("inactive", "success")
    assert machine.shell(f"test -e /proc/{pid} && echo there || pgrep -u roborefer || echo gone").strip() == "gone"


def test_a_wrong_config_is_not_tried_again(machine: Machine) -> None:
    machine.shell(f"echo 'camra = 1' >>{CONFIG}")
    machine.run("systemctl", "start", UNIT, check=False)
    soon(machine, "the failure", lambda: machine.show(UNIT, "ActiveState") == "failed")
    assert (machine.show(UNIT, "ExecMainStatus"), machine.show(UNIT, "Result")) == ("2", "exit-code")
    assert "unknown key 'camra'; did you mean 'camera'?" in journal(machine)
    configure(machine, "the red cup")


def test_what_fails_again_and_again_stays_down(machine: Machine) -> None:
    dropin = f"/etc/systemd/system/{UNIT}.d"
    broken = "[Service]\\nExecStart=\\nExecStart=/bin/false\\nRestartSec=10ms\\n"
    machine.shell(f"mkdir -p {dropin}; printf '{broken}' >{dropin}/z.conf; systemctl daemon-reload")
    machine.run("systemctl", "start", UNIT, check=False)
    soon(machine, "the limit", lambda: "Start request repeated too quickly" in journal(machine))
    assert machine.show(UNIT, "ActiveState") == "failed"
    machine.shell(f"rm -r {dropin}")


def test_a_machine_that_boots_again_has_its_service(machine: Machine) -> None:
    machine.reboot()
    soon(machine, "READY after the boot", lambda: is_active(machine))
    assert machine.show(UNIT, "NRestarts") == "0"


def test_uninstall_ends_it(machine: Machine) -> None:
    machine.run(PROGRAM, "service", "uninstall")
    assert machine.show(UNIT, "ActiveState") == "inactive"
    left = machine.shell("find /etc -name '*roborefer*'").split()
    assert left == ["/etc/roborefer-edge"]
    assert machine.shell(f"test -f {CONFIG} && test -f {ANSWERS} && echo kept").strip() == "kept"
