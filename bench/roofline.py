"""The shortest time each stage could take: operations over peak rate or bytes over bandwidth, whichever is longer.

Operations and bytes are counted from the bundle itself (or from a shape that was never written), ceilings are those
of each Jetson module and power mode (`hardware.profiles`) or measured on this machine (`bench.ceilings`). Beside a
measurement this says what is left to gain, and where: a ratio of 1 would be perfect.

What it leaves out is small beside it: preprocessing, parsing, activations (kept on the chip by a good kernel),
element-wise work. Weights are read once per stage. So real times lie above; 2 to 4 times is usual.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench.decoder_costs import DecoderCost, Work, decoder_cost_of_file, decoder_cost_of_shape
from bench.graph_costs import GraphCost, Precision, graph_cost, graph_cost_of_file
from bench.shapes import DecoderType, ModelShape
from bench.synthetic import SKELETONS, read_skeleton
from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.bundle_shapes import encoder_files
from edge_runtime.encoders import projected_tiles
from edge_runtime.manifest import ImageSpec
from edge_runtime.preprocess import preprocess_rgb, with_max_tiles
from hardware.profiles import PROFILES, Ceilings, ClockMode, DeviceProfile

STAGES = ("rgb_encoder", "depth_encoder", "prefill", "decode")
# Template, question and the sentence that asks for coordinates, as the published tokenizer writes them.
TEXT_TOKENS = 92

Bound = Literal["compute", "memory"]


@dataclass(frozen=True)
class EncoderCost:
    """A modality's encoder: what runs on every tile of the tower, and on every tile of the projector."""

    graphs: Sequence[GraphCost]  # one fused encoder, or tower and projector


@dataclass(frozen=True)
class ModelCost:
    """Everything a bundle costs."""

    image: ImageSpec
    rgb: EncoderCost
    depth: EncoderCost | None
    shared_tower: bool
    decoder: DecoderCost
    tokens_per_tile: int


@dataclass(frozen=True)
class Question:
    """One question's sizes."""

    tower_tiles: int  # of one picture
    projector_tiles: int
    prompt_tokens: int
    answer_tokens: int
    depth: bool


@dataclass(frozen=True)
class Prediction:
    """The shortest time of a stage."""

    ms: float
    bound: Bound


def cost_of_bundle(bundle: Bundle) -> ModelCost:
    """Count a bundle's files.

    Raises:
        BundleInvalid: A file cannot be counted.
    """
    manifest = bundle.manifest
    files = {m: encoder_files(manifest, m) for m in (("rgb",) if manifest.image.depth is None else ("rgb", "depth"))}
    costs = {name: graph_cost_of_file(bundle.file(name)) for names in files.values() for name in names}
    encoders = {m: EncoderCost([costs[name] for name in names]) for m, names in files.items()}
    return ModelCost(
        image=manifest.image,
        rgb=encoders["rgb"],
        depth=encoders.get("depth"),
        shared_tower="depth" in files and files["rgb"][0] == files["depth"][0],
        decoder=decoder_cost_of_file(bundle.file(DECODER)),
        tokens_per_tile=manifest.dims.tokens_per_tile,
    )


def cost_of_shape(shape: ModelShape, kind: DecoderType | None = None) -> ModelCost:
    """Count a shape, without writing it."""
    encoder = EncoderCost([graph_cost(read_skeleton(SKELETONS, name)) for name in (shape.tower, shape.projector)])
    return ModelCost(
        image=shape.image,
        rgb=encoder,
        depth=encoder if shape.image.depth is not None else None,
        shared_tower=False,
        decoder=decoder_cost_of_shape(shape.decoder, kind or shape.decoder_type),
        tokens_per_tile=shape.dims.tokens_per_tile,
    )


def question(
    model: ModelCost,
    *,
    width: int,
    height: int,
    max_tiles: int | None = None,
    depth: bool = True,
    prompt_tokens: int | None = None,
    answer_tokens: int,
) -> Question:
    """How many tiles and tokens a picture of this size gives.

    Args:
        model: What is asked.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        max_tiles: Tile budget; default: the model's.
        depth: Ask with depth, if the model takes it.
        prompt_tokens: As measured; default: media and about as much text as a question has.
        answer_tokens: Tokens that are written.

    Raises:
        ConfigError: The tile budget is impossible.
    """
    spec = with_max_tiles(model.image, max_tiles)
    tiles = preprocess_rgb(np.zeros((height, width, 3), np.uint8), spec)
    projected = projected_tiles(tiles, spec)
    modalities = 2 if depth and model.depth is not None else 1
    # A newline token follows each block; where pictures are tiled, the prompt has a line end of its own there too.
    line_ends = 2 * projected if spec.mode == "dynamic" else 1
    media = modalities * (projected * model.tokens_per_tile + line_ends)
    return Question(
        tower_tiles=len(tiles.pixels),
        projector_tiles=projected,
        prompt_tokens=prompt_tokens or media + TEXT_TOKENS,
        answer_tokens=answer_tokens,
        depth=modalities == 2,
    )


def work_of(model: ModelCost, asked: Question) -> dict[str, Work]:
    """What each stage has to compute and to read."""
    none = Work({}, 0.0)
    depth = model.depth if asked.depth else None
    return {
        "rgb_encoder": _encoder_work(model.rgb, asked),
        "depth_encoder": _encoder_work(depth, asked) if depth is not None else none,
        "prefill": model.decoder.prefill(asked.prompt_tokens),
        "decode": model.decoder.decode(asked.prompt_tokens, asked.answer_tokens),
    }


def predict(work: Mapping[str, Work], ceilings: Ceilings) -> dict[str, Prediction]:
    """The shortest time of each stage under these ceilings."""
    return {stage: _shortest(todo, ceilings) for stage, todo in work.items()}


def total_ms(predictions: Mapping[str, Prediction]) -> float:
    """All stages one after the other."""
    return sum(p.ms for p in predictions.values())


def every_module() -> list[tuple[DeviceProfile, ClockMode]]:
    """Each Jetson module in each of its power modes."""
    return [(profile, mode) for profile in PROFILES for mode in profile.modes]


def fits(profile: DeviceProfile, weight_bytes: float) -> bool:
    """Whether the weights leave a quarter of a module's memory to everything else."""
    return weight_bytes <= 0.75 * profile.ram_gb * 1e9


def weight_bytes(model: ModelCost) -> float:
    """Bytes of all weights that must be in memory; a shared tower once."""
    encoders = [*model.rgb.graphs, *(model.depth.graphs[int(model.shared_tower) :] if model.depth else [])]
    return sum(graph.weight_bytes for graph in encoders) + model.decoder.body_bytes + model.decoder.head_bytes


def beside(
    predictions: Mapping[str, Prediction], measured_ms: Mapping[str, float]
) -> dict[str, dict[str, float | str | None]]:
    """Prediction, measurement and their ratio, stage by stage."""
    rows: dict[str, dict[str, float | str | None]] = {}
    for stage, prediction in predictions.items():
        measured = measured_ms[stage]
        ratio = round(measured / prediction.ms, 2) if prediction.ms > 0 else None
        rows[stage] = {
            "predicted": round(prediction.ms, 3),
            "bound": prediction.bound,
            "measured": round(measured, 3),
            "ratio": ratio,
        }
    return rows


def to_json(work: Mapping[str, Work]) -> dict[str, Any]:
    """Operations and bytes of each stage."""
    return {stage: {"ops": dict(todo.ops), "bytes": todo.bytes} for stage, todo in work.items()}


def _encoder_work(encoder: EncoderCost, asked: Question) -> Work:
    """The last graph runs on what is projected, those before it on every tile of the tower."""
    ops: defaultdict[Precision, float] = defaultdict(float)
    for graph in encoder.graphs:
        last = graph is encoder.graphs[-1]
        tiles = asked.projector_tiles if last and len(encoder.graphs) > 1 else asked.tower_tiles
        for kind, count in graph.ops.items():
            ops[kind] += count * tiles
    return Work(dict(ops), sum(graph.weight_bytes for graph in encoder.graphs))


def _shortest(work: Work, ceilings: Ceilings) -> Prediction:
    rates: Mapping[Precision, float] = {
        "fp32": ceilings.fp32_ops,
        "fp16": ceilings.fp16_ops,
        "int8": ceilings.int8_ops,
    }
    compute_s = sum(count / rates[kind] for kind, count in work.ops.items())
    memory_s = work.bytes / ceilings.bytes
    return Prediction(1e3 * max(compute_s, memory_s), "compute" if compute_s >= memory_s else "memory")
