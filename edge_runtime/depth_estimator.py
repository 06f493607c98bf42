"""The depth estimator of a bundle: depth for pictures that came without any.

An optional part; a bundle without it answers such questions from the picture alone. What is estimated has no metres,
so no point is lifted with it. The network is opened when it is first needed: it can be larger than all other parts.
"""

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from edge_runtime.bundle import ESTIMATOR, ESTIMATOR_GOLDEN, Bundle
from edge_runtime.encoders import Graph, open_graph
from edge_runtime.errors import BundleInvalid
from edge_runtime.estimator_pictures import estimator_input, picture_of_estimate
from edge_runtime.golden import Sampled, read_arrays, sampled_arrays, sampled_of
from edge_runtime.providers import CPU, TENSORRT
from edge_runtime.records import F32, U8, RelativeDepth

_log = logging.getLogger(__name__)


class DepthEstimator:
    """The estimator's network, loaded.

    Example:
        with DepthEstimator.open(bundle) as estimator:
            view = View(rgb, estimator.estimate(rgb))
    """

    def __init__(self, graph: Graph) -> None:
        self._graph: Graph | None = graph
        self.providers = graph.providers

    @classmethod
    def open(
        cls, bundle: Bundle, *, providers: Sequence[str] | None = None, n_threads: int | None = None
    ) -> "DepthEstimator":
        """Load the network.

        Args:
            bundle: One that has an estimator.
            providers: ONNX Runtime execution providers, best first; default: the CPU's. TensorRT is passed over: it
                would build an engine for every new picture size.
            n_threads: Of the network; default: one per core.

        Raises:
            BundleInvalid: The bundle has no estimator, or it cannot be loaded.
        """
        wanted = [name for name in providers or (CPU,) if name != TENSORRT] or [CPU]
        graph = open_graph(bundle, ESTIMATOR, wanted, n_threads)
        _log.info("the depth estimator of %s runs on %s", bundle.manifest.name, ", ".join(graph.providers))
        return cls(graph)

    def __enter__(self) -> "DepthEstimator":
        """Return itself; leaving the block frees the network."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the network."""
        self.close()

    def close(self) -> None:
        """Free the network; the object cannot be used afterwards."""
        self._graph = None

    def inverse_depth(self, rgb: U8) -> F32:
        """What the network says about a picture uint8 [H, W, 3]: float32 [h, w], larger = nearer, in its own size.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        assert self._graph is not None, "the estimator is closed"
        inverse: F32 = self._graph.run(estimator_input(rgb))[0]
        return inverse

    def estimate(self, rgb: U8) -> RelativeDepth:
        """Depth of a picture uint8 [H, W, 3], in its size, as the model was trained on.

        Raises:
            InferenceError: ONNX Runtime failed, or the network gave no numbers.
        """
        height, width = rgb.shape[:2]
        return RelativeDepth(picture_of_estimate(self.inverse_depth(rgb), width, height), source="estimated")


# --- golden values --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EstimatorGolden:
    """A picture, and what the full-precision network says about it."""

    rgb: U8  # [H, W, 3]
    inverse: Sampled  # of float32 [h, w]

    def error(self, estimator: DepthEstimator) -> float:
        """max|found - golden| / max|golden|."""
        return self.inverse.relative_error(estimator.inverse_depth(self.rgb))

    def write(self, path: Path) -> None:
        """Write it as an archive whose bytes depend on nothing else.

        Raises:
            OSError: The disk is full or not writable.
        """
        np.savez_compressed(path, allow_pickle=False, rgb=self.rgb, **sampled_arrays("inverse", self.inverse))

    @classmethod
    def read(cls, path: Path) -> "EstimatorGolden":
        """Read the archive of a bundle.

        Raises:
            BundleInvalid: Not such an archive.
        """
        try:
            arrays = read_arrays(path)
            return cls(arrays["rgb"], sampled_of(arrays, "inverse"))
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise BundleInvalid(f"{path} holds no golden values ({error!r}); export the bundle again") from error


def golden_error(bundle: Bundle, *, providers: Sequence[str] | None = None) -> tuple[float, str]:
    """How far a bundle's estimator is off its golden values here, and the provider it ran on.

    Raises:
        BundleInvalid: There are no golden values, or the network cannot be loaded.
        InferenceError: ONNX Runtime failed.
    """
    golden = EstimatorGolden.read(bundle.file(ESTIMATOR_GOLDEN))
    with DepthEstimator.open(bundle, providers=providers) as estimator:
        return golden.error(estimator), estimator.providers[0]
