"""Towers and projectors to ONNX graphs: only plain ai.onnx operators, any number of tiles, the same bytes each time.

A graph's nodes and weights carry the names of the modules they come from
(`vision_model.encoder.layers.0.mlp.fc1/MatMul`), so that a quantization recipe can name layers. Nothing of the
machine that exported stays in a file. How well a graph agrees with torch is `parity.py`'s question.

Letters: T tiles, h w tile height and width, N patches per tile, C tower width, S scales, K tokens per tile,
D decoder width.
"""

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from edge_runtime.errors import BundleInvalid
from train.model.projector import Projector
from train.model.vision_tower import VisionTower
from train.model.vlm import SpatialVLM

# 20 is the first opset with a Gelu operator (18 writes the tower's as five nodes, which no provider fuses back).
# 23 also has Attention, but its CPU kernel is slower than the MatMuls, and ORT 1.19 and TensorRT 10.3 (JetPack 6)
# do not know it.
OPSET = 20

# Larger weights lie in `<name>.onnx.data`, which ONNX Runtime maps instead of copying; protobuf ends at 2 GB.
EXTERNAL_ABOVE_BYTES = 64 << 20

_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class EncoderGraph:
    """One graph to write."""

    file: str
    module: nn.Module
    input_name: str
    output_name: str
    tile_shape: tuple[int, ...]  # of the input, without the number of tiles
    tiles: int = 2  # in the example that is traced: torch.export takes a size of one for a constant
    # which sizes of the input may differ, and how; by default the number of tiles alone
    free: Mapping[int, Any] = field(default_factory=lambda: {0: torch.export.Dim("tiles")})


def encoder_graphs(model: SpatialVLM) -> tuple[EncoderGraph, ...]:
    """The graphs of a model: two for RGB; for depth two, one when it shares the RGB tower, or none."""
    graphs = [
        _tower_graph("rgb_tower.onnx", model.vision_tower),
        _projector_graph("rgb_projector.onnx", model, model.mm_projector),
    ]
    if model.depth_projector is not None:
        if model.depth_tower is not None:
            graphs.append(_tower_graph("depth_tower.onnx", model.depth_tower))
        graphs.append(_projector_graph("depth_projector.onnx", model, model.depth_projector))
    return tuple(graphs)


def write_encoders(
    model: SpatialVLM,
    folder: Path,
    *,
    external_above_bytes: int = EXTERNAL_ABOVE_BYTES,
    on_written: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Write every encoder graph of a model.

    Args:
        model: In float32, in evaluation mode.
        folder: Where the `.onnx` files go.
        external_above_bytes: Weights of a graph that together exceed this go to `<name>.onnx.data`.
        on_written: Called with each file's name.

    Returns:
        Names of the graphs.

    Raises:
        BundleInvalid: The exporter produced something other than the promised plain graph.
        OSError: The disk is full or not writable.
    """
    graphs = encoder_graphs(model)
    with _traceable(model):
        for graph in graphs:
            write_graph(graph, folder, external_above_bytes=external_above_bytes)
            on_written(graph.file)
    return tuple(graph.file for graph in graphs)


def write_graph(graph: EncoderGraph, folder: Path, *, external_above_bytes: int) -> None:
    """Trace one module and write its graph.

    Raises:
        BundleInvalid: The exporter produced something other than the promised plain graph.
        OSError: The disk is full or not writable.
    """
    path = folder / graph.file
    size = sum(p.numel() * p.element_size() for p in graph.module.parameters())
    with _quiet_exporter():
        program = _trace(graph)
        program.save(str(path), external_data=size > external_above_bytes)
    proto = onnx.load(path, load_external_data=False)
    _check_plain(proto, graph)
    onnx.save(_cleaned(proto), path)


def _tower_graph(file: str, tower: VisionTower) -> EncoderGraph:
    pixels = (3, tower.image_px, tower.image_px)
    return EncoderGraph(file, tower, "pixel_values", "features", pixels)


def _projector_graph(file: str, model: SpatialVLM, projector: Projector) -> EncoderGraph:
    tower = model.vision_tower
    scales = 1 if model.multiscale is None else len(model.multiscale.scales_px)
    return EncoderGraph(file, projector, "features", "embeds", (tower.patches, tower.width * scales))


def _trace(graph: EncoderGraph) -> Any:
    parameter = next(graph.module.parameters())
    example = torch.zeros((graph.tiles, *graph.tile_shape), dtype=parameter.dtype, device=parameter.device)
    try:
        return torch.onnx.export(
            graph.module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[graph.input_name],
            output_names=[graph.output_name],
            dynamic_shapes=(dict(graph.free),),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise BundleInvalid(
            f"torch {torch.__version__} cannot export {graph.file}: {str(error).splitlines()[0]} Use a torch release "
            "named in constraints.txt."
        ) from error


@contextmanager
def _traceable(model: SpatialVLM) -> Iterator[None]:
    """Bring the towers, for a while, into a form whose graph has static shapes only."""
    with ExitStack() as stack:
        for tower in (model.vision_tower, model.depth_tower):
            if tower is not None:
                stack.enter_context(_plain_attention(tower))
                stack.enter_context(_plain_positions(tower))
        yield


@contextmanager
def _plain_attention(tower: VisionTower) -> Iterator[None]:
    """Attention as two products and a softmax.

    torch's fused attention exports to the same products wrapped in Shape, Slice and Concat nodes, which keep
    TensorRT and quantizers from seeing static shapes.
    """
    config = tower.vision_model.config
    before = config._attn_implementation  # noqa: SLF001  not all transformers versions have a public name
    config._attn_implementation = "eager"  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001


@contextmanager
def _plain_positions(tower: VisionTower) -> Iterator[None]:
    """Position embeddings as a constant: the exporter leaves large tables behind a Gather."""
    embeddings = tower.vision_model.embeddings
    table = embeddings.position_embedding
    embeddings.position_embedding = _WholeTable(table)
    try:
        yield
    finally:
        embeddings.position_embedding = table


class _WholeTable(nn.Module):
    """Looks up every row of an embedding in order, which is what a tower does for its fixed grid."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.weight = table.weight

    def forward(self, _: Tensor) -> Tensor:
        """The table [N, C]."""
        return self.weight


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about its own innards: deprecations in torch, torchvision not installed."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.no_grad():
            for category in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        log.setLevel(level)


# --- after tracing --------------------------------------------------------------------------------------


def _check_plain(proto: onnx.ModelProto, graph: EncoderGraph) -> None:
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    domains = {node.domain for node in proto.graph.node}
    names = [v.name for v in (*proto.graph.input, *proto.graph.output)]
    if opsets != {"": OPSET} or domains - {""} or proto.functions:
        raise BundleInvalid(
            f"torch {torch.__version__} wrote {graph.file} with operator sets {opsets} and domains {sorted(domains)}; "
            f"only ai.onnx {OPSET} runs everywhere. Use a torch release named in constraints.txt."
        )
    if names != [graph.input_name, graph.output_name]:
        raise BundleInvalid(
            f"torch {torch.__version__} gave {graph.file} the inputs and outputs {names}, asked for were "
            f"{[graph.input_name, graph.output_name]}. Use a torch release named in constraints.txt."
        )


def _cleaned(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Name values after modules and drop what varies from machine to machine."""
    graph = proto.graph
    _rename(graph, _new_names(graph))
    del proto.metadata_props[:]
    del graph.metadata_props[:], graph.value_info[:]
    for entry in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    graph.name = "encoder"
    proto.doc_string = graph.doc_string = ""
    proto.producer_name, proto.producer_version = "roborefer-edge", ""
    return proto


def _new_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Node outputs are named `<module>/<operator>`, weights the tracer transposed `<module>/weight`."""
    taken: Counter[str] = Counter()
    fixed = {v.name for v in (*graph.input, *graph.output)}
    made = {tensor.name: tensor for tensor in graph.initializer}
    names: dict[str, str] = {}

    def name(old: str, wanted: str) -> None:
        if old in fixed or old in names:
            return
        taken[wanted] += 1
        names[old] = wanted if taken[wanted] == 1 else f"{wanted}.{taken[wanted] - 1}"

    for node in graph.node:
        module = _module_of(node)
        for value in node.input:
            # a name with a dot is the checkpoint's own and stays
            if value in made and "." not in value:
                name(value, f"{module}/{_constant_kind(node, made[value])}")
        for value in node.output:
            name(value, f"{module}/{node.op_type}")
    return names


def _constant_kind(node: onnx.NodeProto, tensor: onnx.TensorProto) -> str:
    if tensor.data_type == onnx.TensorProto.INT64:
        return "shape"
    return "weight" if node.op_type == "MatMul" else "constant"


def _module_of(node: onnx.NodeProto) -> str:
    """The innermost module a node was traced from, by its name in the state dict."""
    scopes: Sequence[str] = ()
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = ast.literal_eval(entry.value)
    # the tracer gives what belongs to no module a name of its own, which begins so
    return next((scope for scope in reversed(scopes[:-1]) if scope and not scope.startswith("_")), "graph")


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
        node.name = node.output[0]
