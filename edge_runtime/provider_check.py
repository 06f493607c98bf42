"""Which execution providers can really run the encoders here, how fast, and whether their numbers are right.

ONNX Runtime lists the providers it was *built* with; whether one runs depends on driver, CUDA and TensorRT versions,
and a wheel that does not match its board may abort the whole process. So each is tried in a child of its own, with the
bundle's golden pictures.

Run as a program it is that child: `python -m edge_runtime.provider_check BUNDLE PROVIDER`.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_runtime.bundle import GOLDEN, Bundle, open_bundle
from edge_runtime.bundle_shapes import encoder_files
from edge_runtime.encoders import Encoders, available_providers, nodes_by_provider
from edge_runtime.errors import BundleInvalid, EdgeError, InferenceError
from edge_runtime.golden import GoldenCase, read_golden
from edge_runtime.golden_encoders import encoder_errors
from edge_runtime.preprocess import preprocess_depth, preprocess_rgb
from edge_runtime.providers import KNOWN, fallbacks
from edge_runtime.records import Modality, ViewTiles
from hardware.child import run_module

PATIENCE_S: Final = 600.0  # TensorRT builds an engine for each graph when it is first asked

_TIMED_S: Final = 1.5
_MOST_RUNS = 20
_FEWEST_RUNS = 3


@dataclass(frozen=True)
class ProviderVerdict:
    """What became of one provider."""

    name: str
    ok: bool  # it ran, and its numbers are right
    detail: str
    encode_ms: float | None = None  # median over runs, of one golden picture with its depth
    error_share: float | None = None  # worst error against the golden values, as a share of the stage's tolerance

    def to_json(self) -> dict[str, Any]:
        """The object `of_json` reads back."""
        return asdict(self)


def prove_providers(
    bundle: Bundle, names: Sequence[str] | None = None, *, timeout_s: float = PATIENCE_S
) -> list[ProviderVerdict]:
    """Try providers on the bundle's encoders.

    Args:
        bundle: Its golden pictures are encoded.
        names: Which; default: all of this ONNX Runtime build that a robot may use.
        timeout_s: Limit for each child.
    """
    wanted = [p for p in KNOWN if p in available_providers()] if names is None else names
    return [_prove(bundle, p, timeout_s) for p in wanted]


def _prove(bundle: Bundle, provider: str, timeout_s: float) -> ProviderVerdict:
    child = run_module("edge_runtime.provider_check", str(bundle.path.resolve()), provider, timeout_s=timeout_s)
    if child.timed_out:
        detail = f"no inference within {timeout_s:g} s; `roborefer-edge doctor` waits {PATIENCE_S:g} s"
        return ProviderVerdict(provider, ok=False, detail=detail)
    if child.returncode == 0:
        return ProviderVerdict(**json.loads(child.stdout.splitlines()[-1]))
    how = f"crashed with signal {-child.returncode}" if child.returncode < 0 else "failed"
    missing = _missing_library(child.stderr)
    return ProviderVerdict(provider, ok=False, detail=f"{how}: {f'{missing}; ' if missing else ''}{child.last_words}")


def _missing_library(errors: str) -> str | None:
    """What ONNX Runtime says in its own log alone when a provider's library cannot be loaded."""
    found = re.search(r"Failed to load library \S+ with error: ([^\n\x1b]+)", errors)
    return found.group(1).strip() if found else None


# --- in the child ---------------------------------------------------------------------------------------


def try_provider(bundle: Bundle, provider: str) -> ProviderVerdict:
    """Run the golden pictures through a provider: where its nodes ran, its errors, its time.

    Raises:
        EdgeError: It cannot run them, or every node moved to another provider.
    """
    chain = fallbacks(provider, available_providers())
    cases = read_golden(bundle.file(GOLDEN))
    if not cases:
        raise BundleInvalid(f"{bundle.path / GOLDEN} holds no case; export the bundle again")
    ran = _where_nodes_ran(bundle, cases[0], provider, chain)
    with Encoders.open(bundle, providers=chain, falls_back=False) as encoders:
        errors = list(_errors(bundle, encoders, cases))
        encode_ms = _median_ms(_both(encoders, _views(bundle, max(cases, key=_media))))
    stage, share = max(errors, key=lambda error: error[1])
    detail = f"{ran}; {encode_ms:.1f} ms for a picture; largest error {share:.2f} of the tolerance ({stage})"
    if not share <= 1.0:
        detail = f"its numbers are wrong: {detail}"
    finite = share if share < float("inf") else None
    return ProviderVerdict(provider, share <= 1.0, detail, encode_ms=round(encode_ms, 3), error_share=finite)


def _where_nodes_ran(bundle: Bundle, case: GoldenCase, provider: str, chain: Sequence[str]) -> str:
    """The nodes must not all have moved to another provider."""
    graph = encoder_files(bundle.manifest, "rgb")[0]
    tile = _views(bundle, case)["image"][0].pixels[:1]
    ran = nodes_by_provider(bundle, graph, chain, tile)
    if not ran.get(provider):
        raise InferenceError(f"no node ran on it; onnxruntime fell back to {', '.join(ran) or 'nothing'}")
    return f"{ran[provider]} of {sum(ran.values())} nodes of {graph} ran on it"


def _views(bundle: Bundle, case: GoldenCase) -> dict[Modality, list[ViewTiles]]:
    spec = bundle.manifest.image
    views: dict[Modality, list[ViewTiles]] = {"image": [preprocess_rgb(case.view.rgb, spec)]}
    if case.view.depth is not None and "depth" in case.embeds:
        views["depth"] = [preprocess_depth(case.view.depth, spec, bundle.manifest.depth)]
    return views


def _media(case: GoldenCase) -> int:
    return len(case.embeds)


def _errors(bundle: Bundle, encoders: Encoders, cases: Sequence[GoldenCase]) -> Iterator[tuple[str, float]]:
    """Stage and error as a share of its tolerance, of every case."""
    for case in cases:
        for modality, views in _views(bundle, case).items():
            blocks = encoders.encode(modality, views)
            for stage, error in encoder_errors(encoders, bundle, case, modality, views, blocks).items():
                tolerance = bundle.manifest.tolerances.get(stage)
                if tolerance is None:
                    raise BundleInvalid(f"the manifest of {bundle.path} states no tolerance for {stage}")
                yield stage, tolerance.share(error)


def _both(encoders: Encoders, views: dict[Modality, list[ViewTiles]]) -> Callable[[], object]:
    return lambda: [encoders.encode(modality, tiles) for modality, tiles in views.items()]


def _median_ms(run: Callable[[], object]) -> float:
    run()
    taken_ms: list[float] = []
    began = time.monotonic()
    while len(taken_ms) < _FEWEST_RUNS or (len(taken_ms) < _MOST_RUNS and time.monotonic() - began < _TIMED_S):
        start = time.perf_counter()
        run()
        taken_ms.append((time.perf_counter() - start) * 1e3)
    return float(np.median(taken_ms))


def _main(arguments: Sequence[str]) -> int:
    try:
        verdict = try_provider(open_bundle(Path(arguments[0])), arguments[1])
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(verdict.to_json()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
