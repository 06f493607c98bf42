"""Which execution providers can really run a graph here, proven by an inference in a child process.

ONNX Runtime lists the providers it was *built* with; whether one runs depends on driver, CUDA and TensorRT versions,
and a wheel that does not match its board may abort the whole process. So each is tried in a child of its own.

Run as a program it is that child: `python -m edge_runtime.provider_check BUNDLE PROVIDER`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.bundle_shapes import encoder_files
from edge_runtime.encoders import available_providers, nodes_by_provider
from edge_runtime.errors import EdgeError, InferenceError
from edge_runtime.preprocess import preprocess_rgb
from hardware.child import run_module


@dataclass(frozen=True)
class ProviderVerdict:
    """What became of one provider."""

    name: str
    ok: bool
    detail: str


# Sends models to a service in the cloud; never what a robot wants, and listed by every build.
_REMOTE = "AzureExecutionProvider"


def prove_providers(bundle: Bundle, *, timeout_s: float = 120.0) -> list[ProviderVerdict]:
    """Try every local provider of this ONNX Runtime build on the bundle's RGB encoder.

    Args:
        bundle: Its encoder is run on one grey picture.
        timeout_s: Limit for each child; TensorRT may build an engine first.
    """
    return [_prove(bundle, p, timeout_s) for p in available_providers() if p != _REMOTE]


def _prove(bundle: Bundle, provider: str, timeout_s: float) -> ProviderVerdict:
    child = run_module("edge_runtime.provider_check", str(bundle.path.resolve()), provider, timeout_s=timeout_s)
    if child.timed_out:
        return ProviderVerdict(provider, ok=False, detail=f"no inference within {timeout_s:g} s")
    if child.returncode == 0:
        return ProviderVerdict(provider, ok=True, detail=child.stdout.strip())
    how = f"crashed with signal {-child.returncode}" if child.returncode < 0 else "failed"
    return ProviderVerdict(provider, ok=False, detail=f"{how}: {child.last_words}")


def _child(bundle_path: Path, provider: str) -> str:
    """Run one picture through the first RGB graph; the nodes must not all have moved to another provider."""
    bundle = open_bundle(bundle_path)
    spec = bundle.manifest.image
    side = spec.rgb.tile_px
    grey = preprocess_rgb(np.full((side, side, 3), 128, np.uint8), spec)
    graph = encoder_files(bundle.manifest, "rgb")[0]
    ran = nodes_by_provider(bundle.file(graph), provider, grey.pixels[:1])
    if not ran.get(provider):
        raise InferenceError(f"no node ran on it; onnxruntime fell back to {', '.join(ran) or 'nothing'}")
    return f"{ran[provider]} of {sum(ran.values())} nodes of {graph} ran on it"


if __name__ == "__main__":
    try:
        sys.stdout.write(_child(Path(sys.argv[1]), sys.argv[2]) + "\n")
    except EdgeError as error:
        sys.exit(str(error))
