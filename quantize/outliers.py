"""A hard graph that computes the same: the outliers that trained SigLIP towers have and small ones do not.

Random weights and small models quantize too well to prove anything. Two transforms change no output: some channels of
every LayerNorm become fifty times larger, with the inverse in the weights that read them; and every MLP gets hidden
units that fire hugely for a few tokens and that nothing reads, like the massive activations of large models. The
first is what SmoothQuant repairs; the second only leaving the layer out does.

    python -m quantize.outliers BUNDLE OUT      a bundle with such encoders, to try recipes on
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.bundle import BundleWriter, open_bundle
from edge_runtime.records import F32, F64
from quantize.encoder_files import encoder_graphs
from quantize.graph import Graph, Linear
from quantize.smoothquant import normed_inputs

CHANNELS: Final = 20
GAIN: Final = 50.0
UNITS: Final = 32  # hidden units added to an MLP; a multiple of what block formats need
MASSIVE: Final = 2000.0  # slope of a massive unit
RARE: Final = 2.5  # standard deviations a token must stand out to fire one


@dataclass(frozen=True)
class Mlp:
    """Two products with a bias and a GELU between them."""

    first: Linear
    bias: str
    second: Linear


def add_outliers(graph: Graph, *, seed: int = 0) -> None:
    """Give a float graph outlier channels and massive activations, in place; its output stays the same."""
    for number, mlp in enumerate(mlps(graph)):
        _add_massive_units(graph, mlp, np.random.default_rng([seed, number]))
    for value, layers in normed_inputs(graph).items():
        _raise_channels(graph, value, layers, seed)


def mlps(graph: Graph) -> tuple[Mlp, ...]:
    """The MLPs of a tower or projector."""
    return tuple(_mlps(graph))


def _mlps(graph: Graph) -> Iterator[Mlp]:
    by_activation = {layer.activation: layer for layer in graph.linears()}
    for layer in graph.linears():
        biased = [node for node in graph.consumers(layer.output) if node.op_type == "Add"]
        if len(biased) != 1:
            continue
        gelu = [node for node in graph.consumers(biased[0].output[0]) if node.op_type == "Gelu"]
        bias = next((name for name in biased[0].input if graph.is_constant(name)), None)
        if len(gelu) == 1 and bias is not None and gelu[0].output[0] in by_activation:
            yield Mlp(layer, bias, by_activation[gelu[0].output[0]])


def _add_massive_units(graph: Graph, mlp: Mlp, rng: np.random.Generator) -> None:
    weight, bias = graph.weights(mlp.first.weight), graph.weights(mlp.bias)
    directions = rng.standard_normal((len(weight), UNITS))
    directions *= MASSIVE / np.linalg.norm(directions, axis=0)
    threshold = np.full(UNITS, -RARE * MASSIVE)
    graph.set_constant(mlp.first.weight, _float(np.concatenate([weight, directions], axis=1)))
    graph.set_constant(mlp.bias, _float(np.concatenate([bias, threshold])))
    readers = graph.weights(mlp.second.weight)
    graph.set_constant(mlp.second.weight, _float(np.concatenate([readers, np.zeros((UNITS, readers.shape[1]))])))


def _raise_channels(graph: Graph, value: str, layers: tuple[Linear, ...], seed: int) -> None:
    norm = graph.producer(value)
    assert norm is not None, "normed_inputs found it"
    width = layers[0].rows
    scales = np.ones(width, np.float32)
    # the same channels in every layer, as in trained networks
    chosen = np.random.default_rng([seed, width]).choice(width, min(CHANNELS, width // 3), replace=False)
    scales[chosen] = GAIN
    for name in (norm.input[1], norm.input[2]):
        graph.set_constant(name, graph.weights(name) * scales)
    for layer in layers:
        graph.set_constant(layer.weight, graph.weights(layer.weight) / scales[:, None])


def _float(values: F64) -> F32:
    return np.ascontiguousarray(values, np.float32)


def main(arguments: list[str]) -> None:
    """Write a bundle with outliers."""
    parser = argparse.ArgumentParser(prog="python -m quantize.outliers", description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    parent = open_bundle(options.bundle)
    graphs = encoder_graphs(parent)
    with BundleWriter(options.out) as writer:
        for name in parent.manifest.files:
            if name in graphs:
                graph = Graph.read(parent.file(name))
                add_outliers(graph, seed=options.seed)
                graph.write(writer.path / name)
            elif name.removesuffix(".data") not in graphs:
                shutil.copyfile(parent.file(name), writer.path / name)
        writer.finish(parent.manifest)


if __name__ == "__main__":
    main(sys.argv[1:])
