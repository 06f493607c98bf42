"""The native self-test with children that really crash, hang and lie, and its memory."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_runtime import native_check
from edge_runtime.cache import cache_folder
from edge_runtime.errors import BundleInvalid, InferenceError
from edge_runtime.native_check import FAILED_STATUS, NativeVerdict, decoder_verdict
from tests.seeded_gguf import seeded_gguf

PASS = [sys.executable, "-c", ""]
SEGFAULT = [sys.executable, "-c", "import ctypes; ctypes.string_at(0)"]
ABORT = [sys.executable, "-c", "import os; os.abort()"]
HANG = [sys.executable, "-c", "import time; time.sleep(60)"]
NONSENSE = [sys.executable, "-c", f"import sys; sys.stderr.write('not finite\\n'); sys.exit({FAILED_STATUS})"]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded_gguf(tmp_path_factory.mktemp("native"), dtype="f16")


@pytest.fixture(autouse=True)
def empty_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's cache folder of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def memory_folder(tmp_path: Path) -> Path:
    """Where this test's facts are remembered."""
    folder = cache_folder()
    assert folder == tmp_path / "cache/roborefer-edge"
    return folder


class Children:
    """A probe command that runs chosen children and counts them."""

    def __init__(self, with_buffers: Sequence[str], without: Sequence[str]) -> None:
        self._commands = {True: with_buffers, False: without}
        self.asked: list[bool] = []

    def __call__(self, _gguf: Path, extra_bufts: bool) -> Sequence[str]:
        self.asked.append(extra_bufts)
        return self._commands[extra_bufts]


# --- with the real library -----------------------------------------------------------------------------


def test_this_machine_runs_the_model_and_remembers(
    gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = decoder_verdict(gguf)
    assert (first.extra_bufts, first.remembered) == ("on", False)
    assert first.use_extra_bufts
    assert len(caplog.records) == 1
    second = decoder_verdict(gguf)
    assert (second.extra_bufts, second.remembered) == ("on", True)
    assert len(caplog.records) == 1  # said once


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_truncated_model_is_the_file_s_fault_not_the_machine_s(gguf: Path, tmp_path: Path, share: float) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf.read_bytes()[: int(gguf.stat().st_size * share)])
    with pytest.raises(BundleInvalid, match=r"cut\.gguf"):
        decoder_verdict(cut)
    assert not memory_folder(tmp_path).exists()


@pytest.mark.parametrize("content", [b"", b"GG", b"garbage" * 40])
def test_no_gguf_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    children = Children(PASS, PASS)
    with pytest.raises(BundleInvalid, match=r"bad\.gguf"):
        decoder_verdict(path, probe_command=children)
    assert children.asked == []


# --- with children that fail ------------------------------------------------------------------------------


def test_a_segfault_leads_to_the_fallback_which_is_remembered(
    gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children = Children(SEGFAULT, PASS)
    verdict = decoder_verdict(gguf, probe_command=children)
    assert verdict.extra_bufts == "off"
    assert not verdict.use_extra_bufts
    assert "SIGSEGV" in verdict.reason
    assert "SIGSEGV" in caplog.text
    again = decoder_verdict(gguf, probe_command=children)
    assert again == NativeVerdict("off", verdict.reason, remembered=True)
    assert children.asked == [True, False]


def test_wrong_numbers_count_like_a_crash(gguf: Path, tmp_path: Path) -> None:
    verdict = decoder_verdict(gguf, probe_command=Children(NONSENSE, PASS))
    assert verdict.extra_bufts == "off"
    assert "not finite" in verdict.reason


def test_when_all_fails_the_error_says_what_and_nothing_is_remembered(gguf: Path, tmp_path: Path) -> None:
    verdict = decoder_verdict(gguf, probe_command=Children(SEGFAULT, ABORT))
    assert verdict.extra_bufts == "unusable"
    with pytest.raises(InferenceError, match=r"SIGSEGV.*SIGABRT.*Rebuild"):
        _ = verdict.use_extra_bufts
    repaired = decoder_verdict(gguf, probe_command=Children(PASS, PASS))
    assert repaired == NativeVerdict("on", repaired.reason, remembered=False)


def test_a_time_out_falls_back_but_is_not_remembered(gguf: Path, tmp_path: Path) -> None:
    busy = decoder_verdict(gguf, probe_command=Children(HANG, PASS), timeout_s=0.5)
    assert busy.extra_bufts == "off"
    assert "more than 0.5 s" in busy.reason
    idle = decoder_verdict(gguf, probe_command=Children(PASS, PASS))
    assert idle.extra_bufts == "on"


def test_a_child_that_cannot_start(gguf: Path, tmp_path: Path) -> None:
    nowhere = [str(tmp_path / "none")]
    with pytest.raises(InferenceError, match="cannot be started"):
        decoder_verdict(gguf, probe_command=Children(nowhere, nowhere))


# --- the memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xff", b'{"reason": ""}', b'{"extra_bufts": "?"}'])
def test_a_corrupt_memory_means_a_new_test(gguf: Path, tmp_path: Path, content: bytes) -> None:
    decoder_verdict(gguf, probe_command=Children(PASS, PASS))
    (memory,) = memory_folder(tmp_path).iterdir()
    memory.write_bytes(content)
    children = Children(PASS, PASS)
    assert not decoder_verdict(gguf, probe_command=children).remembered
    assert decoder_verdict(gguf, probe_command=children).remembered
    assert children.asked == [True]


def test_other_tensor_types_are_another_question(gguf: Path, tmp_path: Path) -> None:
    decoder_verdict(gguf, probe_command=Children(PASS, PASS))
    other = seeded_gguf(gguf.parent, dtype="f32")
    assert not decoder_verdict(other, probe_command=Children(SEGFAULT, PASS)).remembered
    assert decoder_verdict(gguf).extra_bufts == "on"
    assert decoder_verdict(other).extra_bufts == "off"


@pytest.mark.parametrize("part", ["processor_facts", "llama_cpp_facts"])
def test_another_processor_or_library_build_is_another_question(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    decoder_verdict(gguf, probe_command=Children(PASS, PASS))
    facts = getattr(native_check, part)()
    assert len(facts) > 1
    monkeypatch.setattr(native_check, part, lambda: [*facts[:-1], "something else"])
    assert not decoder_verdict(gguf, probe_command=Children(PASS, PASS)).remembered


def test_a_memory_that_cannot_be_written_is_only_slower(
    gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "cache").write_text("in the way")
    children = Children(PASS, PASS)
    for _ in range(2):
        assert decoder_verdict(gguf, probe_command=children).extra_bufts == "on"
    assert children.asked == [True, True]
    assert "cannot remember" in caplog.text
