"""Proves, once per machine, that llama.cpp can run a model here, and remembers the answer.

A badly built llama.cpp crashes in its repacked matrix products on some processors (docs/decisions.md). A
crash in native code cannot be caught, so a child process tries first with the extra buffers, then without.
This module never loads llama.cpp itself.
"""

import hashlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge_runtime.cache import recall, remember
from edge_runtime.errors import BundleInvalid, InferenceError
from edge_runtime.gguf_header import read_tensor_types
from edge_runtime.installed import llama_cpp_facts
from hardware.child import CANNOT_START, run_command
from hardware.identity import processor_facts

ExtraBufts = Literal["on", "off", "unusable"]
ProbeCommand = Callable[[Path, bool], Sequence[str]]

BAD_FILE_STATUS: Final = 3  # the child's word for: the file is bad, not the library
FAILED_STATUS: Final = 4  # and for: llama.cpp answered, but wrongly

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NativeVerdict:
    """How llama.cpp may be used for one kind of model on this machine."""

    extra_bufts: ExtraBufts
    reason: str
    remembered: bool = False  # read from the cache, not tried just now

    @property
    def use_extra_bufts(self) -> bool:
        """The setting to open a decoder with.

        Raises:
            InferenceError: llama.cpp runs this model in no way here.
        """
        if self.extra_bufts == "unusable":
            raise InferenceError(
                f"llama.cpp cannot run this model on this machine: {self.reason}. Rebuild llama-cpp-python "
                "with the flags that `make demo` uses, or choose a bundle with an F16 decoder."
            )
        return self.extra_bufts == "on"


@dataclass(frozen=True)
class _Trial:
    """How one child ended."""

    ok: bool
    reason: str
    decisive: bool = True  # a time-out may be a busy machine: not worth remembering


def decoder_verdict(
    gguf: Path,
    *,
    probe_command: ProbeCommand | None = None,
    timeout_s: float = 300.0,
) -> NativeVerdict:
    """Whether llama.cpp's extra buffers work for this model here; tried once, then remembered.

    Args:
        gguf: the bundle's decoder.
        probe_command: what to run for (model, extra buffers); default is edge_runtime/native_probe.py.
        timeout_s: limit for each of the two trials.

    Raises:
        BundleInvalid: it is no GGUF file, or llama.cpp refuses it without crashing.
        InferenceError: llama-cpp-python is not installed, or the test cannot be started.
    """
    name = f"llama-cpp-{_key(gguf)[:16]}"
    known = _remembered(name)
    if known is not None:
        return known
    verdict, decisive = _try_both(gguf, probe_command or _probe_command, timeout_s)
    level = logging.INFO if verdict.extra_bufts == "on" else logging.WARNING
    _log.log(level, "llama.cpp self-test: extra buffers %s (%s)", verdict.extra_bufts, verdict.reason)
    if decisive and verdict.extra_bufts != "unusable":
        remember(name, {"extra_bufts": verdict.extra_bufts, "reason": verdict.reason})
    return verdict


def _probe_command(gguf: Path, extra_bufts: bool) -> Sequence[str]:
    return [sys.executable, "-m", "edge_runtime.native_probe", str(gguf.resolve()), "on" if extra_bufts else "off"]


def _try_both(gguf: Path, command: ProbeCommand, timeout_s: float) -> tuple[NativeVerdict, bool]:
    """The verdict, and whether it may be remembered."""
    first = _try(command(gguf, True), timeout_s)
    if first.ok:
        return NativeVerdict("on", "the self-test passed with extra buffers"), True
    second = _try(command(gguf, False), timeout_s)
    if second.ok:
        reason = f"with extra buffers the self-test {first.reason}"
        return NativeVerdict("off", reason), first.decisive
    reason = f"with extra buffers the self-test {first.reason}; without them it {second.reason}"
    return NativeVerdict("unusable", reason), False


def _try(command: Sequence[str], timeout_s: float) -> _Trial:
    """Run one child to its end.

    Raises:
        BundleInvalid: the child says that the file is bad, which no setting would cure.
        InferenceError: there is no such program.
    """
    # without the variable llama.cpp would start a debugger on itself
    child = run_command(command, timeout_s=timeout_s, environment={"GGML_NO_BACKTRACE": "1"})
    if child.timed_out:
        return _Trial(ok=False, reason=f"took more than {timeout_s:g} s", decisive=False)
    if child.returncode == CANNOT_START:
        raise InferenceError(f"The self-test did not run: {child.last_words}.")
    if child.returncode == BAD_FILE_STATUS:
        raise BundleInvalid(child.last_words)
    if child.returncode < 0:
        return _Trial(ok=False, reason=f"crashed ({_signal_name(-child.returncode)})")
    return _Trial(ok=child.returncode == 0, reason=f"failed: {child.last_words}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- what a verdict is good for ----------------------------------------------------------------------


def _key(gguf: Path) -> str:
    """Hash over processor, library build and tensor types: a change in any of them asks for a new test."""
    facts = {
        "cpu": processor_facts(),
        "library": llama_cpp_facts(),
        "tensor_types": read_tensor_types(gguf),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# --- the memory -----------------------------------------------------------------------------------------


def _remembered(name: str) -> NativeVerdict | None:
    entry = recall(name)
    if entry is None or entry.get("extra_bufts") not in ("on", "off"):
        return None
    return NativeVerdict(entry["extra_bufts"], str(entry.get("reason", "")), remembered=True)
