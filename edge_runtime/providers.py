"""ONNX Runtime's execution providers as frozen records: which a robot may use, and what each is asked with.

Nothing here loads ONNX Runtime. Whether a provider runs, how fast, and whether its numbers are right is found out by
edge_runtime/provider_check.py; which one is used is decided in edge_runtime/provider_choice.py.

Source: onnxruntime.ai/docs/execution-providers, pages TensorRT, CUDA and OpenVINO of 1.20 and later.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from edge_runtime.bundle import Bundle
from edge_runtime.cache import cache_folder
from edge_runtime.errors import BundleInvalid
from edge_runtime.onnx_header import read_onnx_header

CPU: Final = "CPUExecutionProvider"
OPENVINO: Final = "OpenVINOExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"

# Those a robot may use, the one that is fastest where it runs first. Others that a build may list are not tried: Azure
# sends models to a service in the cloud.
KNOWN: Final = (TENSORRT, CUDA, OPENVINO, CPU)

# Nobody has run these on a board yet: what this program says of them was read, not seen.
NOT_PROVEN: Final = (TENSORRT, CUDA)

# What a provider cannot run goes to the next of its row.
_FALLBACKS: Final[Mapping[str, tuple[str, ...]]] = {TENSORRT: (TENSORRT, CUDA, CPU), CUDA: (CUDA, CPU)}

_REPORT: Final = "error_report.json"

_log = logging.getLogger(__name__)


class ProviderOptions(Protocol):
    """What one provider is asked with."""

    def to_native(self) -> dict[str, str]:
        """Options as ONNX Runtime takes them."""


@dataclass(frozen=True)
class NoOptions:
    """A provider that needs none."""

    def to_native(self) -> dict[str, str]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class OpenVinoOptions:
    """OpenVINO on the processor; its GPU and NPU devices are not tried."""

    n_threads: int | None = None

    def to_native(self) -> dict[str, str]:
        """Its default precision may be bfloat16; the comparison with golden values decides whether that will do."""
        threads = {} if self.n_threads is None else {"num_of_threads": str(self.n_threads)}
        return {"device_type": "CPU", **threads}


@dataclass(frozen=True)
class CudaOptions:
    """CUDA on the first GPU."""

    def to_native(self) -> dict[str, str]:
        """No exhaustive search at the start, and no arena that doubles: a Jetson's GPU shares the main memory."""
        return {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}


@dataclass(frozen=True)
class TensorRtOptions:
    """TensorRT on the first GPU; building an engine takes minutes, so engines and kernel timings are kept."""

    fp16: bool
    int8: bool
    input_name: str
    input_shape: tuple[int, ...]  # of one tile
    most_tiles: int  # at once
    engine_folder: Path | None  # None: nowhere to keep them, each start builds anew
    timing_folder: Path | None = None

    def to_native(self) -> dict[str, str]:
        """One profile of shapes for every batch there will be: without it a larger batch builds the engine again."""

        def profile(tiles: int) -> str:
            return f"{self.input_name}:{'x'.join(str(n) for n in (tiles, *self.input_shape))}"

        return {
            "trt_fp16_enable": str(self.fp16),
            "trt_int8_enable": str(self.int8),
            "trt_profile_min_shapes": profile(1),
            "trt_profile_opt_shapes": profile(1),
            "trt_profile_max_shapes": profile(self.most_tiles),
            **_kept("engine", self.engine_folder),
            **_kept("timing", self.timing_folder),
        }


@dataclass(frozen=True)
class Provider:
    """One execution provider and what it is asked with."""

    name: str
    options: ProviderOptions = field(default_factory=NoOptions)


def fallbacks(provider: str, available: Sequence[str]) -> tuple[str, ...]:
    """A provider and those that take over what it cannot run, as far as this build has them."""
    chain = dict.fromkeys(_FALLBACKS.get(provider, (provider, CPU)))
    return tuple(name for name in chain if name in available or name == provider)


def configured(name: str, bundle: Bundle, graph: str, *, n_threads: int | None = None, most_tiles: int = 1) -> Provider:
    """A provider with its options for one graph of a bundle.

    Args:
        name: The provider.
        bundle: Its recipe decides TensorRT's precisions.
        graph: One of its ONNX files.
        n_threads: Threads of a graph, for providers that bring their own.
        most_tiles: Largest batch the graph will be given.

    Raises:
        BundleInvalid: The graph's header or the error report cannot be read.
    """
    if name == TENSORRT:
        return Provider(name, _tensorrt(bundle, graph, most_tiles))
    if name == CUDA:
        return Provider(name, CudaOptions())
    if name == OPENVINO:
        return Provider(name, OpenVinoOptions(n_threads))
    return Provider(name)


def _tensorrt(bundle: Bundle, graph: str, most_tiles: int) -> TensorRtOptions:
    scheme = encoder_scheme(bundle)
    ((input_name, shape),) = read_onnx_header(bundle.file(graph)).inputs.items()
    kept = cache_folder()
    # ONNX Runtime names an engine by the structure of its graph: other weights need another folder.
    engines = kept and kept / "tensorrt" / bundle.manifest.files[graph].sha256[:16]
    return TensorRtOptions(
        fp16=scheme != "fp32",  # every smaller recipe has a tolerance that half precision fits
        int8=scheme == "int8-static",  # ranges are in the graph; TensorRT calibrates nothing itself
        input_name=input_name,
        input_shape=tuple(int(n) for n in shape[1:]),  # bundle_shapes has compared them with the manifest's numbers
        most_tiles=most_tiles,
        engine_folder=_made(engines),
        timing_folder=_made(kept and kept / "tensorrt"),
    )


def encoder_scheme(bundle: Bundle) -> str:
    """How the recipe stores the encoders' weights: fp32, fp16, int8-static, ...; an exported bundle has no report.

    Raises:
        BundleInvalid: The error report is no such report.
    """
    if not bundle.has(_REPORT):
        return bundle.manifest.recipe
    try:
        return str(json.loads(bundle.file(_REPORT).read_text(encoding="utf-8"))["recipe"]["encoders"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleInvalid(f"{bundle.path / _REPORT} does not name the encoders' scheme ({error!r})") from error


def _made(folder: Path | None) -> Path | None:
    """The folder, which TensorRT does not make itself; None where none can be."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.info("TensorRT's engines are not kept: %s", error)
        return None
    return folder


def _kept(what: str, folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    return {f"trt_{what}_cache_enable": "True", f"trt_{what}_cache_path": str(folder)}
