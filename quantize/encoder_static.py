"""Static INT8 for the encoders of a bundle: look, smooth, look again, judge, leave out, write.

    float graphs --channel ranges--> SmoothQuant --histograms--> scales --layer errors--> exclusion list --> QDQ graphs

Both looks stream the calibration set through the robot's own encoders; a few inputs of each graph are kept for the
trials.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge_runtime.bundle import Bundle
from edge_runtime.records import F32
from hardware.storage import storage_errors
from quantize.calibration import CalibrationSet
from quantize.graph import Graph
from quantize.onnx_static import activation_scales, quantize_static
from quantize.ranges import ChannelRange, MagnitudeHistogram, RangeMethod
from quantize.sensitivity import LayerError, Trial, exclusions, layer_errors, output_sqnr_db
from quantize.smoothquant import Smoothing, normed_inputs, smooth
from quantize.tensorrt import require
from quantize.watched_encoders import OnValues, stream, watched_encoders
from quantize.weight_error import WeightError

_log = logging.getLogger(__name__)

TRIAL_INPUTS: Final = 8  # of each graph: what layers and exclusion lists are judged on


@dataclass(frozen=True)
class StaticSettings:
    """How static INT8 is made."""

    ranges: RangeMethod = "minmax"
    smooth: bool = True
    # What a graph's output must keep over its rounding noise, in decibels. A tower's output at 20 dB is off by 10 % of
    # its root mean square, about what the decoder of a model trained on noisy depth does not notice.
    budget_db: float = 20.0
    trial_inputs: int = TRIAL_INPUTS


@dataclass(frozen=True)
class EncoderOutcome:
    """What became of one graph."""

    quantized: tuple[WeightError, ...]  # layers, and how far their stored weights are off
    excluded: tuple[str, ...] = ()  # layers that stay in float
    sqnr_db: float | None = None  # of the graph's output, given the same input
    layers: tuple[LayerError, ...] = ()
    trials: tuple[Trial, ...] = ()
    smoothing: tuple[Smoothing, ...] = ()


def write_static(
    bundle: Bundle, folder: Path, names: Collection[str], calibration: CalibrationSet, settings: StaticSettings
) -> dict[str, EncoderOutcome]:
    """Write the encoders of a bundle in static INT8.

    Args:
        bundle: With float32 encoders.
        folder: Where the new files go.
        names: The graphs.
        calibration: What is asked of them.
        settings: How.

    Raises:
        BundleInvalid: A weight is not finite, or a graph is not for TensorRT.
        DataError: A calibration picture cannot be used, or activations overflow on it.
        StorageError: Disk full or not writable.
    """
    graphs = {name: Graph.read(bundle.file(name)) for name in names}
    smoothing = smooth_all(bundle, graphs, calibration, folder) if settings.smooth else {}
    looks = _look(bundle, graphs, calibration, settings.trial_inputs, folder)
    outcomes = {}
    for name in names:
        outcomes[name] = _write_one(graphs.pop(name), looks.pop(name), folder / name, settings, smoothing.get(name, ()))
    return outcomes


# --- looking ------------------------------------------------------------------------------------------


@dataclass
class _Look:
    """What was seen of one graph."""

    histograms: dict[str, MagnitudeHistogram] = field(default_factory=dict)
    inputs: list[F32] = field(default_factory=list)
    outputs: list[F32] = field(default_factory=list)


def smooth_all(
    bundle: Bundle, graphs: Mapping[str, Graph], calibration: CalibrationSet, scratch: Path
) -> dict[str, tuple[Smoothing, ...]]:
    """Smooth every graph in place, after a first look at its channels."""
    ranges: dict[str, dict[str, ChannelRange]] = {
        name: {value: ChannelRange() for value in normed_inputs(graph)} for name, graph in graphs.items()
    }

    def watcher(name: str) -> OnValues:
        def take(values: Mapping[str, F32]) -> None:
            for value, array in values.items():
                ranges[name][value].add(array, value)

        return take

    watchers = {name: (tuple(ranges[name]), watcher(name)) for name in graphs}
    with watched_encoders(bundle, graphs, watchers, scratch) as encoders:
        stream(encoders, bundle, calibration)
    return {name: smooth(graph, ranges[name]) for name, graph in graphs.items()}


def _look(
    bundle: Bundle, graphs: Mapping[str, Graph], calibration: CalibrationSet, keep: int, scratch: Path
) -> dict[str, _Look]:
    """Histograms of what every product reads, and a few inputs and outputs of each graph."""
    looks = {name: _Look() for name in graphs}
    readings = {name: tuple(dict.fromkeys(layer.activation for layer in g.linears())) for name, g in graphs.items()}

    def watcher(name: str, graph: Graph) -> OnValues:
        look = looks[name]

        def take(values: Mapping[str, F32]) -> None:
            for value in readings[name]:
                look.histograms.setdefault(value, MagnitudeHistogram()).add(values[value], value)
            if len(look.inputs) < keep:
                look.inputs.append(values[graph.inputs[0]])
                look.outputs.append(values[graph.outputs[0]])

        return take

    watchers = {
        name: (tuple(dict.fromkeys((*readings[name], graph.inputs[0], graph.outputs[0]))), watcher(name, graph))
        for name, graph in graphs.items()
    }
    with watched_encoders(bundle, graphs, watchers, scratch) as encoders:
        stream(encoders, bundle, calibration)
    return looks


# --- judging and writing ------------------------------------------------------------------------------


def _write_one(
    graph: Graph, look: _Look, path: Path, settings: StaticSettings, smoothing: tuple[Smoothing, ...]
) -> EncoderOutcome:
    scales = activation_scales(look.histograms, settings.ranges)
    layers = graph.linears()
    errors = layer_errors(graph, scales, look.inputs, path.parent)

    def quantized(left_out: Collection[str]) -> float:
        trial = graph.copy()
        quantize_static(trial, scales, excluded=left_out)
        return output_sqnr_db(trial, look.inputs, look.outputs, path.parent)

    trials = exclusions(layers, errors, quantized, settings.budget_db)
    chosen = trials[-1]
    if chosen.excluded:
        _log.info("%s: %d of %d layers stay in float", path.name, len(chosen.excluded), len(layers))
    done = quantize_static(graph, scales, excluded=chosen.excluded)
    require(graph)
    with storage_errors(path):
        graph.write(path)
    return EncoderOutcome(done, chosen.excluded, chosen.sqnr_db, errors, trials, smoothing)
