"""Runs a verb of ours as a child process and reads what it prints: for steps that may not be imported here.

`export`, `quantize` and `bench reference` load torch or write graphs; bench may not import them (design 4), and a
crash or a full memory there must not end what is being put together here.
"""

import json
import time
from dataclasses import dataclass
from typing import Any, Final

from edge_runtime.errors import (
    BudgetExceeded,
    ConfigError,
    DataError,
    DeviceError,
    EdgeError,
    InferenceError,
    NoValidAnswer,
)
from hardware.child import run_module

_ERRORS: Final[dict[int, type[EdgeError]]] = {
    2: ConfigError,
    3: DataError,
    4: DeviceError,
    5: NoValidAnswer,
    6: BudgetExceeded,
}
INTERRUPTED: Final = 130
_PROGRAM: Final = "roborefer-edge: "


@dataclass(frozen=True)
class VerbResult:
    """How a verb ended."""

    verb: str
    code: int  # its exit code; negative: ended by that signal
    report: dict[str, Any] | None  # its last line, if that is a JSON object
    words: str  # its message, if it failed
    duration_s: float
    log: str = ""  # its error output

    def insist(self, *allowed: int) -> dict[str, Any]:
        """Give its report, or raise what it ended with.

        Args:
            allowed: Exit codes that are a result as well.

        Raises:
            EdgeError: It failed; the kind is that of its exit code.
        """
        if self.code == INTERRUPTED:
            raise SystemExit(INTERRUPTED)
        if self.code not in (0, *allowed):
            raise _ERRORS.get(self.code, InferenceError)(f"{self.verb}: {self.words}")
        if self.report is None:
            raise InferenceError(f"{self.verb} ended without its report: {self.words}")
        return self.report


def run_verb(*arguments: object, timeout_s: float) -> VerbResult:
    """Run `roborefer-edge ARGUMENTS --json` to its end.

    Args:
        arguments: File names among them must be absolute.
        timeout_s: It is killed then.
    """
    words = [str(argument) for argument in arguments]
    verb = " ".join(word for word in words[:2] if not word.startswith(("/", "-")))
    started = time.monotonic()
    child = run_module("edge_runtime.cli", *words, "--json", timeout_s=timeout_s)
    took_s = time.monotonic() - started
    if child.timed_out:
        said = f"it was not done within {timeout_s:g} s and was stopped"
    elif child.returncode < 0:
        said = f"it was ended by signal {-child.returncode}; 9 mostly means that memory ran out"
    else:
        said = child.last_words.removeprefix(_PROGRAM)
    return VerbResult(verb, child.returncode, _last_object(child.stdout), said, took_s, child.stderr)


def _last_object(text: str) -> dict[str, Any] | None:
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
