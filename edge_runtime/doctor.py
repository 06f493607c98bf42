"""What this machine is, what was proven to run on it, and what to mend.

Nothing is believed because a library lists it: providers, llama.cpp and the camera SDK are each tried in a child
process, because a bad build may crash or hang.
"""

from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from edge_runtime.bundle import DECODER, Bundle, open_bundle
from edge_runtime.encoders import available_providers
from edge_runtime.errors import EdgeError
from edge_runtime.native_check import decoder_verdict
from edge_runtime.provider_check import ProviderVerdict
from edge_runtime.provider_choice import ProviderChoice, not_in_this_build, prove_choice
from edge_runtime.tuning import tuned_by
from hardware.camera.devices import AttachedCamera, cameras_from_json, firmware_troubles
from hardware.child import run_module
from hardware.health import Trouble, facts, troubles
from hardware.probe import Board, Memory, probe_board, probe_memory

# Loading a bundle maps its weights; beside them a runtime needs about this much (design: issue budgets).
_RUNTIME_MIB = 350
_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "llama-cpp-python", "pyrealsense2", "opencv-python-headless", "pillow")
_GPU_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


@dataclass(frozen=True)
class Proof:
    """Whether something works here, and how that is known."""

    ok: bool
    detail: str


@dataclass(frozen=True)
class DoctorReport:
    """Everything `doctor` found."""

    board: Board
    board_facts: dict[str, str | float | None]
    memory: Memory
    libraries: dict[str, str]
    bundle: Proof
    providers: tuple[ProviderVerdict, ...]  # tried just now
    absent: tuple[ProviderVerdict, ...]  # providers this build of ONNX Runtime does not have
    encoders: Proof  # the provider they run on, and why
    native: Proof
    camera: Proof
    tuning: Path | None  # settings of `doctor --tune` that hold here
    warnings: tuple[Trouble, ...]

    @property
    def ok(self) -> bool:
        """Whether an answer can be had on this machine; a camera may be plugged in later."""
        return self.bundle.ok and self.native.ok and any(p.ok for p in self.providers)

    def to_json(self) -> dict[str, Any]:
        """The object of `doctor --json`."""
        board = asdict(self.board) | {"cpu_features": " ".join(self.board.cpu_features)}
        return {
            "kind": "doctor",
            "ok": self.ok,
            "board": board | self.board_facts | {f"library {name}": v for name, v in self.libraries.items()},
            "memory_mib": {"total": self.memory.total_mib, "available": self.memory.available_mib},
            "bundle": asdict(self.bundle),
            "providers": [asdict(p) for p in (*self.providers, *self.absent)],
            "encoders": asdict(self.encoders),
            "native": asdict(self.native),
            "camera": asdict(self.camera),
            "tuning": None if self.tuning is None else str(self.tuning),
            "warnings": [asdict(w) for w in self.warnings],
        }


def examine(bundle_path: Path) -> DoctorReport:
    """Examine this machine with a bundle to try things on. Never raises for what it finds."""
    board, memory = probe_board(), probe_memory()
    bundle: Bundle | None = None
    try:
        bundle = open_bundle(bundle_path)
        opened = Proof(ok=True, detail=f"{bundle.manifest.name} at {bundle_path}, {bundle.bytes // 2**20} MiB")
    except EdgeError as error:
        opened = Proof(ok=False, detail=str(error))
    # tried anew, so that what a bundle's opening remembers is refreshed
    choice = prove_choice(bundle, anew=True) if bundle else ProviderChoice("none", "no bundle to try any on")
    providers = choice.verdicts
    absent = tuple(not_in_this_build(bundle, available_providers())) if bundle else ()
    encoders = Proof(ok=any(v.ok for v in providers), detail=f"{choice.name}: {choice.reason}")
    native = _prove_native(bundle)
    camera, attached = _prove_camera()
    warnings = _warnings(board, memory, bundle, opened, providers, native, camera) + firmware_troubles(attached)
    return DoctorReport(
        board, facts(), memory, _libraries(), opened, providers, absent, encoders, native, camera,
        tuned_by(bundle) if bundle else None, tuple(warnings),
    )  # fmt: skip


def _prove_native(bundle: Bundle | None) -> Proof:
    if bundle is None:
        return Proof(ok=False, detail="not tried: no bundle to try it on")
    try:
        verdict = decoder_verdict(bundle.file(DECODER))
    except EdgeError as error:
        return Proof(ok=False, detail=str(error))
    how = "remembered" if verdict.remembered else "tried now"
    return Proof(
        ok=verdict.extra_bufts != "unusable", detail=f"extra buffers {verdict.extra_bufts}: {verdict.reason} ({how})"
    )


def _prove_camera(timeout_s: float = 20.0) -> tuple[Proof, list[AttachedCamera]]:
    """Ask the SDK for devices, in a child: loading it or enumerating USB can hang."""
    child = run_module("hardware.camera.devices", timeout_s=timeout_s)
    if child.timed_out:
        return Proof(ok=False, detail=f"the RealSense SDK did not list devices within {timeout_s:g} s"), []
    if child.returncode < 0:
        return Proof(ok=False, detail=f"the RealSense SDK crashed with signal {-child.returncode}"), []
    if child.returncode != 0:
        return Proof(ok=False, detail=child.last_words), []
    try:
        cameras = cameras_from_json(child.stdout)
    except ValueError:
        return Proof(ok=False, detail=f"the RealSense SDK answered {child.stdout!r:.80} when asked for devices"), []
    if not cameras:
        return Proof(ok=False, detail="none connected (the RealSense SDK works)"), []
    return Proof(ok=True, detail="; ".join(map(str, cameras))), cameras


def _libraries() -> dict[str, str]:
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    return {name: installed[name] for name in _LIBRARIES if name in installed}


def _camera_fix(camera: Proof) -> str:
    if "pyrealsense2" in camera.detail:
        return "install it as that says; replay folders work without it"
    return "plug the camera into a USB 3 port, or replay a recording"


def _warnings(
    board: Board,
    memory: Memory,
    bundle: Bundle | None,
    opened: Proof,
    providers: tuple[ProviderVerdict, ...],
    native: Proof,
    camera: Proof,
) -> list[Trouble]:
    found: list[Trouble] = []
    if not opened.ok:
        found.append(Trouble(opened.detail, "name a bundle with --bundle or make one with `roborefer-edge export`"))
    if bundle and memory.available_mib and memory.available_mib < bundle.bytes // 2**20 + _RUNTIME_MIB:
        found.append(
            Trouble(
                f"{memory.available_mib} MiB of memory are free, the bundle needs about "
                f"{bundle.bytes // 2**20 + _RUNTIME_MIB}",
                "close other programs or use a smaller recipe",
            )
        )
    if bundle and "extra buffers off" in native.detail:
        found.append(
            Trouble(
                "llama.cpp's fast paths crash here and are switched off",
                "rebuild llama-cpp-python with the flags of hardware/deploy/build_llama.sh",
            )
        )
    broken = [p.name for p in providers if not p.ok and p.name in _GPU_PROVIDERS]
    if broken:
        found.append(Trouble(f"listed but cannot run an inference: {', '.join(broken)}", "install a matching wheel"))
    if board.is_jetson and not any(p.ok and p.name in _GPU_PROVIDERS for p in providers):
        found.append(
            Trouble(
                "no GPU provider runs, encoders will use the CPU", "install the onnxruntime-gpu wheel of your JetPack"
            )
        )
    if not camera.ok:
        found.append(Trouble(f"no live camera: {camera.detail}", _camera_fix(camera)))
    found.extend(troubles())
    return found
