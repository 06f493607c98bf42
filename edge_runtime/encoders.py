"""Tiles to decoder embeddings: the one door to ONNX Runtime on the robot.

An encoder is a tower and a projector, or one graph that fuses them. For dynamic-S2 models the features of all
scales are merged between the two. Native errors leave this module as ours.
"""

import functools
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge_runtime.bundle import Bundle
from edge_runtime.bundle_shapes import encoder_files
from edge_runtime.errors import BundleInvalid, ConfigError, InferenceError
from edge_runtime.manifest import ImageSpec
from edge_runtime.multiscale import ScaleGrids, assemble, merge_scales, scale_grids
from edge_runtime.providers import CPU, Provider, configured
from edge_runtime.records import F32, Modality, ViewTiles

T = TypeVar("T")

_log = logging.getLogger(__name__)

# From 1.29 on ONNX Runtime tells its makers which models it loads, unless this says no before it is imported. A robot
# tells nobody (docs/decisions.md).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Tiles sent through a graph at once. Attention scores of a 448 px tile take 64 MB per tile in fp32, so a whole
# RGB-D question of 26 tiles would need gigabytes; beyond a few tiles a larger batch gains nothing on these machines.
_BATCH_TILES = 4

# The layers of a smaller graph are too short to be divided among all processors: where pictures and depth are encoded
# at the same time (edge_runtime/lanes.py), each takes half of them instead.
SMALL_GRAPH_BYTES = 64 << 20


class Graph:
    """One ONNX graph with one input and one output."""

    def __init__(
        self,
        path: Path,
        providers: Sequence[Provider],
        n_threads: int | None,
        *,
        profile_prefix: str | None = None,
        packs_weights: bool = True,
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; what matters is raised
        if profile_prefix is not None:
            options.enable_profiling, options.profile_file_prefix = True, profile_prefix
        if n_threads is not None:
            options.intra_op_num_threads = n_threads
        if not packs_weights:
            options.add_session_config_entry("session.disable_prepacking", "1")
        # Threads that spin between runs take the cores the decoder needs next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with _native_errors(lambda e: BundleInvalid(f"onnxruntime cannot load {path}: {e}")):
            # Its own fallback prints on standard output, where answers go, and tries what was not asked for.
            self._session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                str(path), options, providers=[(p.name, p.options.to_native()) for p in providers], enable_fallback=0
            )
        self._name = path.name
        self._input = self._session.get_inputs()[0].name
        self.providers = tuple(self._session.get_providers())
        if self.providers[0] != providers[0].name:  # a library it needs is missing: said in a native log line alone
            raise BundleInvalid(f"onnxruntime left {providers[0].name} out when it loaded {path}")

    def run(self, tiles: F32) -> F32:
        """Run the graph on [tiles, ...]."""
        result: F32 = np.asarray(self.run_as_is(tiles), np.float32)
        return result

    def run_as_is(self, values: F32) -> npt.NDArray[Any]:
        """Run the graph; its output in the type it has there."""
        with _native_errors(lambda e: InferenceError(f"onnxruntime failed in {self._name}: {e}")):
            (output,) = self._session.run(None, {self._input: values})
        return np.asarray(output)

    def end_profiling(self) -> str:
        """Stop profiling and give the file it was written to."""
        return str(self._session.end_profiling())


class Encoders:
    """The encoders of a bundle, opened with one execution provider and those that help it out.

    Example:
        with Encoders.open(bundle) as encoders:
            blocks = encoders.encode("image", [tiles])
    """

    def __init__(
        self,
        graphs: dict[Modality, tuple[Graph, ...]],
        spec: ImageSpec,
        providers: tuple[str, ...],
        *,
        fills_processors: bool = False,
    ) -> None:
        self._graphs = graphs  # of each modality, in order: (fused,) or (tower, projector)
        self._spec = spec
        self.providers = providers
        # ONNX Runtime then ties each thread to a core, and two graphs at once would wait for the same ones.
        self.fills_processors = fills_processors

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        *,
        providers: Sequence[str] | None = None,
        n_threads: int | None = None,
        falls_back: bool = True,
        packs_weights: bool = True,
    ) -> "Encoders":
        """Load the graphs of a bundle.

        Args:
            bundle: An opened bundle.
            providers: ONNX Runtime execution providers, best first; default: the CPU's.
            n_threads: Threads of a graph; default: one per core, half as many for a small model with depth.
            falls_back: Go on to the next provider, at last the processor, and say why, where one does not start.
            packs_weights: Keep copies of the weights in the order the processor likes; off: less memory, and slower.

        Raises:
            ConfigError: A provider this ONNX Runtime was not built with.
            BundleInvalid: A graph cannot be loaded; without falling back also: the provider did not start.
        """
        wanted = tuple(providers or (CPU,))
        _check_available(wanted)
        n_threads = n_threads or _useful_threads(bundle)
        load = functools.partial(_graphs_on, bundle, n_threads=n_threads, packs_weights=packs_weights)
        graphs = _first_that_starts(wanted, load) if falls_back else load(wanted)
        used = graphs["image"][0].providers
        _log.info("encoders of %s run on %s", bundle.manifest.name, ", ".join(used))
        return cls(graphs, bundle.manifest.image, used, fills_processors=n_threads is None)

    def __enter__(self) -> "Encoders":
        """Return itself; leaving the block releases the graphs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the graphs."""
        self.close()

    def close(self) -> None:
        """Release the graphs; the object cannot be used afterwards."""
        self._graphs = {}

    def encode(self, modality: Modality, views: Sequence[ViewTiles]) -> list[F32]:
        """Encode pictures of one modality.

        Args:
            modality: Which encoder.
            views: The tiles of each picture.

        Returns:
            float32 [n, D] blocks in prompt order: one per tile, or for dynamic-S2 one per picture.

        Raises:
            InferenceError: ONNX Runtime failed, or there is no encoder for the modality.
        """
        if not views:
            return []
        pixels = np.concatenate([view.pixels for view in views])
        *tower, last = self._graphs_of(modality)
        if self._spec.mode != "dynamic_s2":
            return list(_through([*tower, last], pixels))
        features = _through(tower, pixels)
        grids = [_grids(view, self._spec) for view in views]
        return _project_scales(features, grids, last)

    def features(self, modality: Modality, views: Sequence[ViewTiles]) -> F32:
        """Tower output float32 [T, N, C] of all tiles, for parity checks; needs an unfused encoder."""
        graphs = self._graphs_of(modality)
        if len(graphs) != 2:
            raise InferenceError(f"the {modality} encoder of this bundle is fused: it has no tower output")
        return _through(graphs[:1], np.concatenate([view.pixels for view in views]))

    def _graphs_of(self, modality: Modality) -> tuple[Graph, ...]:
        try:
            return self._graphs[modality]
        except KeyError:
            raise InferenceError(f"no {modality} encoder is open; open are {sorted(self._graphs)}") from None


def projected_tiles(view: ViewTiles, spec: ImageSpec) -> int:
    """How many tiles of a picture the projector turns into tokens."""
    if spec.mode != "dynamic_s2":
        return len(view.pixels)
    grids = _grids(view, spec)
    rows, cols = grids.grids[grids.output]
    return rows * cols


def _grids(view: ViewTiles, spec: ImageSpec) -> ScaleGrids:
    return scale_grids(scales_px=spec.s2_scales, output_index=spec.s2_output_index, rows=view.rows, cols=view.cols)


def available_providers() -> list[str]:
    """Providers this ONNX Runtime was built with; being listed does not mean one can run."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def nodes_by_provider(bundle: Bundle, graph: str, providers: Sequence[str], tiles: F32) -> dict[str, int]:
    """Run a graph once and count on which provider its nodes really ran.

    ONNX Runtime moves nodes a provider cannot run to the CPU without a word; only its profile tells.

    Args:
        bundle: An opened bundle.
        graph: One of its ONNX files.
        providers: Those to ask for, best first.
        tiles: float32 input of the graph.

    Raises:
        BundleInvalid: The graph cannot be loaded with this provider.
        InferenceError: It failed when it ran.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = Graph(
            bundle.file(graph), _configured(bundle, graph, providers, None), None, profile_prefix=f"{folder}/profile"
        )
        session.run(tiles)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = [e["args"]["provider"] for e in events if e.get("cat") == "Node" and "provider" in e.get("args", {})]
    return dict(Counter(ran))


def open_graph(bundle: Bundle, name: str, providers: Sequence[str], n_threads: int | None) -> Graph:
    """A graph of a bundle that is not one of its encoders, on the first of the providers that starts.

    Args:
        bundle: An opened bundle.
        name: One of its ONNX files, with one input and one output.
        providers: Those to ask for, best first.
        n_threads: Of the graph; None: one per core.

    Raises:
        BundleInvalid: The bundle has no such file, or no provider can load it.
    """
    return _first_that_starts(
        providers, lambda some: Graph(bundle.file(name), _configured(bundle, name, some, n_threads), n_threads)
    )


def _first_that_starts(providers: Sequence[str], load: Callable[[Sequence[str]], T]) -> T:
    """What is loaded with all providers, or without the first ones where those do not start."""
    try:
        return load(providers)
    except BundleInvalid as error:
        if providers[0] == CPU:
            raise
        rest = tuple(providers[1:]) or (CPU,)
        _log.warning("%s cannot be used, the graphs go to %s instead: %s", providers[0], rest[0], error)
        return _first_that_starts(rest, load)


def _graphs_on(
    bundle: Bundle, providers: Sequence[str], *, n_threads: int | None, packs_weights: bool
) -> dict[Modality, tuple[Graph, ...]]:
    """Every encoder's graphs, in order."""
    opened: dict[str, Graph] = {}
    graphs: dict[Modality, tuple[Graph, ...]] = {}
    modalities: list[tuple[Modality, str]] = [("image", "rgb")]
    if bundle.manifest.image.depth is not None:
        modalities.append(("depth", "depth"))
    for modality, prefix in modalities:
        names = encoder_files(bundle.manifest, prefix)
        for name in names:  # a shared tower is loaded once
            if name not in opened:
                chain = _configured(bundle, name, providers, n_threads)
                opened[name] = Graph(bundle.file(name), chain, n_threads, packs_weights=packs_weights)
        graphs[modality] = tuple(opened[name] for name in names)
    return graphs


def _configured(bundle: Bundle, graph: str, providers: Sequence[str], n_threads: int | None) -> list[Provider]:
    return [configured(p, bundle, graph, n_threads=n_threads, most_tiles=_BATCH_TILES) for p in providers]


def _useful_threads(bundle: Bundle) -> int | None:
    """Threads of one graph; None: ONNX Runtime's own choice, one per core."""
    tower = encoder_files(bundle.manifest, "rgb")[0]
    size_bytes = sum(entry.bytes for name, entry in bundle.manifest.files.items() if name.startswith(tower))
    if bundle.manifest.image.depth is None or size_bytes > SMALL_GRAPH_BYTES:
        return None
    return max(1, len(os.sched_getaffinity(0)) // 2)


def _through(graphs: Sequence[Graph], tiles: F32) -> F32:
    for graph in graphs:
        chunks = range(0, len(tiles), _BATCH_TILES)
        tiles = np.concatenate([graph.run(tiles[i : i + _BATCH_TILES]) for i in chunks])
    return tiles


def _project_scales(features: F32, grids: Sequence[ScaleGrids], projector: Graph) -> list[F32]:
    """One block per picture: merge its scales, project tile by tile, put together."""
    ends = np.cumsum([g.tiles for g in grids])[:-1]
    pictures = np.split(features, ends)
    return [assemble(_through([projector], merge_scales(f, g)), g) for f, g in zip(pictures, grids, strict=True)]


def _check_available(wanted: Sequence[str]) -> None:
    available = available_providers()
    if unknown := [p for p in wanted if p not in available]:
        raise ConfigError(
            f"execution provider {unknown} is not in this onnxruntime build; it has {available}. "
            "On a Jetson install the GPU wheel that matches its JetPack."
        )


@contextmanager
def _native_errors(ours: Callable[[Exception], Exception]) -> Iterator[None]:
    """Replace what ONNX Runtime raises by an error of ours."""
    try:
        yield
    except native_exceptions() as error:
        raise ours(error) from error


def native_exceptions() -> tuple[type[Exception], ...]:
    """Every exception class of ONNX Runtime's native module, and what its bindings raise for bad arguments."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    members: list[Any] = [getattr(native, name) for name in dir(native)]
    own = [m for m in members if isinstance(m, type) and issubclass(m, Exception)]
    return (*own, RuntimeError, ValueError, TypeError)
