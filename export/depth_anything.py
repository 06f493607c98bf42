"""Depth Anything V2 weights, in upstream's `.pth` or the Hugging Face folder, as one torch model.

Both layouts hold the same tensors under other names. Sizes are read off the tensors; what tensors cannot say (which
layers are looked at, which head) has to be what V2 does. Nothing is unpickled and nothing is fetched: a `.pth` is read
with `weights_only`, a folder from `model.safetensors` and `config.json`.

Source: github.com/DepthAnything/Depth-Anything-V2, and transformers' `DepthAnythingForDepthEstimation`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from edge_runtime.errors import CheckpointError
from edge_runtime.estimator_pictures import MEAN, PATCH_PX, STD
from train.part_files import PartTensors, read_json

_HEAD_WIDTH: Final = 64  # of an attention head, in every DINOv2
_SHOWN: Final = 5

# The published sizes by width: name and licence of the weights.
PUBLISHED: Final[Mapping[int, tuple[str, str]]] = {
    384: ("Small", "Apache-2.0"), 768: ("Base", "CC-BY-NC-4.0"), 1024: ("Large", "CC-BY-NC-4.0"),
}  # fmt: skip

# Upstream's name -> transformers', as patterns of whole names. `qkv` becomes three tensors, see `_renamed`.
_RENAMES: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"pretrained\.cls_token", "backbone.embeddings.cls_token"),
        (r"pretrained\.mask_token", "backbone.embeddings.mask_token"),
        (r"pretrained\.pos_embed", "backbone.embeddings.position_embeddings"),
        (r"pretrained\.patch_embed\.proj\.(weight|bias)", r"backbone.embeddings.patch_embeddings.projection.\1"),
        (r"pretrained\.norm\.(weight|bias)", r"backbone.layernorm.\1"),
        (r"pretrained\.blocks\.(\d+)\.norm([12])\.(weight|bias)", r"backbone.encoder.layer.\1.norm\2.\3"),
        (r"pretrained\.blocks\.(\d+)\.ls([12])\.gamma", r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
        (r"pretrained\.blocks\.(\d+)\.mlp\.fc([12])\.(weight|bias)", r"backbone.encoder.layer.\1.mlp.fc\2.\3"),
        (
            r"pretrained\.blocks\.(\d+)\.attn\.proj\.(weight|bias)",
            r"backbone.encoder.layer.\1.attention.output.dense.\2",
        ),
        (
            r"pretrained\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)",
            r"backbone.encoder.layer.\1.attention.attention.{part}.\2",
        ),
        (r"depth_head\.projects\.(\d)\.(weight|bias)", r"neck.reassemble_stage.layers.\1.projection.\2"),
        (r"depth_head\.resize_layers\.([013])\.(weight|bias)", r"neck.reassemble_stage.layers.\1.resize.\2"),
        (r"depth_head\.scratch\.layer([1-4])_rn\.weight", r"neck.convs.{before}.weight"),
        (
            r"depth_head\.scratch\.refinenet([1-4])\.out_conv\.(weight|bias)",
            r"neck.fusion_stage.layers.{from_end}.projection.\2",
        ),
        (
            r"depth_head\.scratch\.refinenet([1-4])\.resConfUnit([12])\.conv([12])\.(weight|bias)",
            r"neck.fusion_stage.layers.{from_end}.residual_layer\2.convolution\3.\4",
        ),
        (r"depth_head\.scratch\.output_conv1\.(weight|bias)", r"head.conv1.\1"),
        (r"depth_head\.scratch\.output_conv2\.0\.(weight|bias)", r"head.conv2.\1"),
        (r"depth_head\.scratch\.output_conv2\.2\.(weight|bias)", r"head.conv3.\1"),
    )
)

# What a config has to say besides the sizes, and what it means if it says otherwise.
_HINTS: Final[Mapping[str, str]] = {
    "depth_estimation_type": "this is the metric variant; RoboRefer was trained on the relative one",
    "backbone.out_indices": "Depth Anything V1 looks at the last layers; only V2 is supported",
    "backbone.use_swiglu_ffn": "the giant variant is not supported",
}
_COMPARED: Final = (
    "patch_size", "reassemble_hidden_size", "reassemble_factors", "neck_hidden_sizes", "fusion_hidden_size",
    "head_in_index", "head_hidden_size", "depth_estimation_type",
)  # fmt: skip
_COMPARED_OF_BACKBONE: Final = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "hidden_act",
    "layer_norm_eps", "image_size", "patch_size", "qkv_bias", "use_swiglu_ffn", "out_indices", "apply_layernorm",
)  # fmt: skip


@dataclass(frozen=True)
class EstimatorWeights:
    """A depth estimator in float32, in evaluation mode."""

    model: DepthAnythingForDepthEstimation
    width: int  # of the backbone

    @property
    def licence(self) -> str:
        """What its makers say about the published weights of this size."""
        name, licence = PUBLISHED.get(self.width, (f"of width {self.width}", "unknown"))
        return f"depth estimator (Depth Anything V2 {name}): {licence}"

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())


def read_estimator(path: Path) -> EstimatorWeights:
    """Read a depth estimator.

    Args:
        path: Upstream's `.pth`, or a folder as on Hugging Face.

    Raises:
        CheckpointError: There is nothing there, it is damaged, would run code, or is another network or variant.
    """
    if path.is_dir():
        tensors = _tensors_of_folder(path)
        model = _built(tensors, path)
        _check_config(read_json(path / "config.json"), model.config, path)
        _check_preprocessor(path)
    else:
        _refuse_by_name(path)
        tensors = dict(_renamed(_tensors_of_pth(path), path))
        model = _built(tensors, path)
    model.load_state_dict(tensors, assign=True, strict=True)
    return EstimatorWeights(model.eval(), model.config.backbone_config.hidden_size)


# --- upstream's file --------------------------------------------------------------------------------------


def _refuse_by_name(path: Path) -> None:
    """Nothing in a `.pth` tells relative from metric, or V2 from V1: the name has to."""
    if not path.is_file():
        raise CheckpointError(f"no depth estimator at {path}: name a .pth file of Depth Anything V2, or a folder")
    if "metric" in path.name:
        raise CheckpointError(f"{path}: {_HINTS['depth_estimation_type']}")
    if re.search(r"depth_anything_vit[sblg]14", path.name):
        raise CheckpointError(f"{path}: {_HINTS['backbone.out_indices']}")


def _tensors_of_pth(path: Path) -> dict[str, Tensor]:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a damaged archive leads to
        # its first sentence says why; the rest tells how to switch the check off
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(
            f"{path} cannot be read as tensors and nothing else: {type(error).__name__}: {reason[:200]} "
            "A file that holds anything but tensors is refused, because reading it could run code."
        ) from error
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()) or not held:
        raise CheckpointError(f"{path} holds no table of tensors: take the .pth that Depth Anything V2 publishes")
    return held


def _renamed(tensors: Mapping[str, Tensor], path: Path) -> Iterator[tuple[str, Tensor]]:
    """Upstream's tensors under transformers' names."""
    strange: list[str] = []
    for name, tensor in tensors.items():
        wanted = _new_name(name)
        if wanted is None:
            strange.append(name)
        elif "{part}" in wanted:
            for part, piece in zip(("query", "key", "value"), tensor.float().chunk(3), strict=True):
                yield wanted.format(part=part), piece.clone()
        else:
            yield wanted, tensor.float()
    if strange:
        raise CheckpointError(
            f"{path} is no Depth Anything V2 of size Small, Base or Large: it holds {len(strange)} tensors that those "
            f"have not: {sorted(strange)[:_SHOWN]}"
        )


def _new_name(name: str) -> str | None:
    for pattern, replacement in _RENAMES:
        if found := pattern.fullmatch(name):
            wanted = found.expand(replacement)
            if "{part}" in wanted:
                return wanted
            number = int(found[1]) if found.re.groups and found[1].isdigit() else 0
            return wanted.format(before=number - 1, from_end=4 - number)
    return None


# --- the folder ---------------------------------------------------------------------------------------------


def _tensors_of_folder(path: Path) -> dict[str, Tensor]:
    weights = PartTensors(path)
    return {name: tensor.float() for name, tensor in weights.read(weights.names)}


def _check_config(config: Mapping[str, Any], ours: DepthAnythingConfig, path: Path) -> None:
    """Whether a folder's config asks for the network that V2 is."""
    if config.get("model_type") != "depth_anything" or config.get("backbone") is not None:
        raise CheckpointError(
            f"{path / 'config.json'} is of model type {config.get('model_type')!r} with backbone "
            f"{config.get('backbone')!r}; expected is 'depth_anything' with a backbone_config of its own"
        )
    try:
        theirs = DepthAnythingConfig(**config)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path / 'config.json'} is no config of a depth estimator: {error}") from error
    pairs = [(name, getattr(theirs, name, None), getattr(ours, name)) for name in _COMPARED]
    pairs += [
        (f"backbone.{name}", getattr(theirs.backbone_config, name, None), getattr(ours.backbone_config, name))
        for name in _COMPARED_OF_BACKBONE
    ]
    for name, found, expected in pairs:
        if found != expected:
            hint = _HINTS.get(name, "is it the config.json of another model?")
            raise CheckpointError(
                f"{path / 'config.json'}: {name} is {found}, Depth Anything V2 has {expected}: {hint}"
            )


def _check_preprocessor(path: Path) -> None:
    """Whether pictures are normalised as the robot does it; a folder without the file says nothing against it."""
    file = path / "preprocessor_config.json"
    if not file.is_file():
        return
    stated = read_json(file)
    for name, expected in (("image_mean", MEAN), ("image_std", STD), ("ensure_multiple_of", PATCH_PX)):
        found = stated.get(name, expected)
        if (tuple(found) if isinstance(found, list) else found) != expected:
            raise CheckpointError(f"{file}: {name} is {found}, Depth Anything V2 has {expected}")


# --- the network --------------------------------------------------------------------------------------------


def _built(tensors: Mapping[str, Tensor], path: Path) -> DepthAnythingForDepthEstimation:
    """An empty network of the tensors' sizes; every tensor has its place, every place its tensor."""
    try:
        config = _config_of(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no Depth Anything V2: {error} is missing or has no size that fits; it holds "
            f"{sorted(tensors)[:_SHOWN]}"
        ) from error
    with torch.device("meta"):
        model = DepthAnythingForDepthEstimation(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if missing := sorted(expected.keys() - found.keys()):
        raise CheckpointError(f"{path} lacks {len(missing)} tensors of a Depth Anything V2: {missing[:_SHOWN]}")
    if strange := sorted(found.keys() - expected.keys()):
        raise CheckpointError(f"{path} holds {len(strange)} tensors no Depth Anything V2 has: {strange[:_SHOWN]}")
    if other := [name for name, shape in expected.items() if found[name] != shape]:
        shapes = {name: (list(found[name]), list(expected[name])) for name in other[:_SHOWN]}
        raise CheckpointError(f"{path}: these tensors do not fit the others (found, expected): {shapes}")
    return model


def _config_of(tensors: Mapping[str, Tensor]) -> DepthAnythingConfig:
    """The network that tensors under transformers' names belong to.

    Raises:
        KeyError, IndexError, ValueError: They are another network's.
    """
    width = tensors["backbone.embeddings.cls_token"].shape[-1]
    side = math.isqrt(tensors["backbone.embeddings.position_embeddings"].shape[1] - 1)
    layers = len({name.split(".")[3] for name in tensors if name.startswith("backbone.encoder.layer.")})
    inner = tensors["backbone.encoder.layer.0.mlp.fc1.weight"].shape[0]
    if width % _HEAD_WIDTH or layers % 4 or inner % width or not layers:
        raise ValueError(f"a backbone of width {width}, {layers} layers and {inner} inner channels")
    backbone = Dinov2Config(
        image_size=side * PATCH_PX,
        patch_size=PATCH_PX,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // _HEAD_WIDTH,
        mlp_ratio=inner // width,
        out_indices=_layers_looked_at(layers),
        apply_layernorm=True,
        reshape_hidden_states=False,
        attn_implementation="eager",  # exports as plain products, see onnx_encoders.py
    )
    necks = [tensors[f"neck.reassemble_stage.layers.{i}.projection.weight"].shape[0] for i in range(4)]
    return DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=PATCH_PX,
        reassemble_hidden_size=width,
        neck_hidden_sizes=necks,
        fusion_hidden_size=tensors["neck.convs.0.weight"].shape[0],
        head_hidden_size=tensors["head.conv2.weight"].shape[0],
    )


def _layers_looked_at(layers: int) -> list[int]:
    """Behind which layers V2 reads features, counted from one: at the quarters, but for the 24 layers of Large."""
    return [5, 12, 18, 24] if layers == 24 else [layers * quarter // 4 for quarter in (1, 2, 3, 4)]
