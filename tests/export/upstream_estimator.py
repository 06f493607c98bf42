"""Depth Anything V2 as upstream lays it out: seeded weights under its names, and its forward in plain torch.

Written from the description of the network, with none of transformers' code, so that agreement proves the key map.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

PATCH_PX = 14
EPSILON = 1e-6  # of DINOv2's LayerNorms


@dataclass(frozen=True)
class EstimatorShape:
    """Sizes of one estimator."""

    width: int
    layers: int
    necks: tuple[int, int, int, int]
    fusion: int
    head: int = 32
    side: int = 37  # of the table of positions, in patches: 518 px


SMALL = EstimatorShape(384, 12, (48, 96, 192, 384), 64)  # as published
TINY = EstimatorShape(64, 4, (8, 16, 24, 32), 16, side=6)


def seeded_weights(shape: EstimatorShape, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under upstream's names, of a size that keeps the signal alive through all layers."""
    generator = torch.Generator().manual_seed(seed)

    def filled(name: str, size: tuple[int, ...]) -> Tensor:
        if name.endswith("gamma"):
            return 0.3 + 0.4 * torch.rand(size, generator=generator)
        fan_in = torch.Size(size[1:]).numel() if len(size) > 1 else 100
        values = torch.randn(size, generator=generator) / fan_in**0.5
        return values + 1.0 if "norm" in name and name.endswith("weight") else values

    weights = {name: filled(name, size) for name, size in _sizes(shape).items()}
    weights["depth_head.scratch.output_conv2.2.bias"] = torch.full((1,), 1.0)  # most values above zero
    return weights


def write_pth(path: Path, weights: dict[str, Tensor]) -> Path:
    """The file that upstream publishes."""
    torch.save(weights, path)
    return path


def upstream_forward(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Inverse depth [1, H, W] of a square picture [1, 3, H, W] as large as the table of positions."""
    layers = len({name.split(".")[2] for name in weights if name.startswith("pretrained.blocks.")})
    looked_at = {4: (0, 1, 2, 3), 12: (2, 5, 8, 11), 24: (4, 11, 17, 23)}[layers]
    rows, cols = (size // PATCH_PX for size in pixels.shape[2:])
    tokens = _conv(weights, "pretrained.patch_embed.proj", pixels, stride=PATCH_PX).flatten(2).transpose(1, 2)
    tokens = torch.cat([weights["pretrained.cls_token"], tokens], dim=1) + weights["pretrained.pos_embed"]
    features = []
    for layer in range(layers):
        tokens = _block(weights, f"pretrained.blocks.{layer}", tokens)
        if layer in looked_at:
            features.append(_norm(weights, "pretrained.norm", tokens)[:, 1:])
    maps = [f.transpose(1, 2).reshape(1, -1, rows, cols) for f in features]
    return _head(weights, maps, (rows * PATCH_PX, cols * PATCH_PX))


# --- the backbone ---------------------------------------------------------------------------------------------


def _block(weights: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    attended = _attention(weights, f"{name}.attn", _norm(weights, f"{name}.norm1", tokens))
    tokens = tokens + weights[f"{name}.ls1.gamma"] * attended
    inner = _linear(weights, f"{name}.mlp.fc1", _norm(weights, f"{name}.norm2", tokens))
    return tokens + weights[f"{name}.ls2.gamma"] * _linear(weights, f"{name}.mlp.fc2", functional.gelu(inner))


def _attention(weights: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    _, count, width = tokens.shape
    query, key, value = (
        part.reshape(1, count, width // 64, 64).transpose(1, 2)
        for part in _linear(weights, f"{name}.qkv", tokens).split(width, dim=-1)
    )
    shares = (query / 8.0 @ key.transpose(-1, -2)).softmax(dim=-1)
    return _linear(weights, f"{name}.proj", (shares @ value).transpose(1, 2).reshape(1, count, width))


def _norm(weights: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return functional.layer_norm(tokens, scale.shape, scale, shift, EPSILON)


def _linear(weights: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    return functional.linear(tokens, weights[f"{name}.weight"], weights[f"{name}.bias"])


# --- the head -------------------------------------------------------------------------------------------------


def _head(weights: dict[str, Tensor], maps: list[Tensor], size: tuple[int, int]) -> Tensor:
    scratch = "depth_head.scratch"
    projected = [_conv(weights, f"depth_head.projects.{i}", m) for i, m in enumerate(maps)]
    projected[0] = _up(weights, "depth_head.resize_layers.0", projected[0], 4)
    projected[1] = _up(weights, "depth_head.resize_layers.1", projected[1], 2)
    projected[3] = _conv(weights, "depth_head.resize_layers.3", projected[3], stride=2, padding=1)
    thin = [_conv(weights, f"{scratch}.layer{i + 1}_rn", p, padding=1) for i, p in enumerate(projected)]
    path = _fused(weights, f"{scratch}.refinenet4", thin[3], None, thin[2].shape[2:])
    for number in (3, 2, 1):
        beside = thin[number - 1]
        wanted = thin[number - 2].shape[2:] if number > 1 else torch.Size(2 * side for side in path.shape[2:])
        path = _fused(weights, f"{scratch}.refinenet{number}", path, beside, wanted)
    values = _stretched(_conv(weights, f"{scratch}.output_conv1", path, padding=1), torch.Size(size))
    values = _conv(weights, f"{scratch}.output_conv2.0", values, padding=1).relu()
    return _conv(weights, f"{scratch}.output_conv2.2", values).relu()[:, 0]


def _fused(weights: dict[str, Tensor], name: str, path: Tensor, beside: Tensor | None, size: torch.Size) -> Tensor:
    if beside is not None:
        path = path + _residual(weights, f"{name}.resConfUnit1", beside)
    path = _residual(weights, f"{name}.resConfUnit2", path)
    return _conv(weights, f"{name}.out_conv", _stretched(path, size))


def _residual(weights: dict[str, Tensor], name: str, path: Tensor) -> Tensor:
    inner = _conv(weights, f"{name}.conv1", path.relu(), padding=1)
    return path + _conv(weights, f"{name}.conv2", inner.relu(), padding=1)


def _stretched(path: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(path, list(size), mode="bilinear", align_corners=True)


def _conv(weights: dict[str, Tensor], name: str, path: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    bias = weights.get(f"{name}.bias")
    return functional.conv2d(path, weights[f"{name}.weight"], bias, stride=stride, padding=padding)


def _up(weights: dict[str, Tensor], name: str, path: Tensor, factor: int) -> Tensor:
    return functional.conv_transpose2d(path, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=factor)


# --- sizes ----------------------------------------------------------------------------------------------------


def _sizes(shape: EstimatorShape) -> dict[str, tuple[int, ...]]:
    width, fusion, half = shape.width, shape.fusion, shape.fusion // 2
    sizes: dict[str, tuple[int, ...]] = {
        "pretrained.cls_token": (1, 1, width),
        "pretrained.pos_embed": (1, shape.side**2 + 1, width),
        "pretrained.mask_token": (1, width),
        "pretrained.patch_embed.proj.weight": (width, 3, PATCH_PX, PATCH_PX),
        "pretrained.patch_embed.proj.bias": (width,),
        "pretrained.norm.weight": (width,),
        "pretrained.norm.bias": (width,),
    }
    linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linears |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for layer in range(shape.layers):
        block = f"pretrained.blocks.{layer}"
        sizes |= {f"{block}.{name}.{kind}": (width,) for name in ("norm1", "norm2") for kind in ("weight", "bias")}
        sizes |= {f"{block}.{name}.gamma": (width,) for name in ("ls1", "ls2")}
        sizes |= {f"{block}.{name}.weight": size for name, size in linears.items()}
        sizes |= {f"{block}.{name}.bias": size[:1] for name, size in linears.items()}
    convs = {f"projects.{i}": (neck, width, 1, 1) for i, neck in enumerate(shape.necks)}
    convs |= {f"resize_layers.{i}": (n, n, k, k) for i, k in ((0, 4), (1, 2), (3, 3)) for n in (shape.necks[i],)}
    for number in (1, 2, 3, 4):
        block = f"scratch.refinenet{number}"
        sizes[f"depth_head.scratch.layer{number}_rn.weight"] = (fusion, shape.necks[number - 1], 3, 3)
        convs[f"{block}.out_conv"] = (fusion, fusion, 1, 1)
        convs |= {f"{block}.resConfUnit{u}.conv{c}": (fusion, fusion, 3, 3) for u in (1, 2) for c in (1, 2)}
    convs["scratch.output_conv1"] = (half, fusion, 3, 3)
    convs["scratch.output_conv2.0"] = (shape.head, half, 3, 3)
    convs["scratch.output_conv2.2"] = (1, shape.head, 1, 1)
    sizes |= {f"depth_head.{name}.weight": size for name, size in convs.items()}
    return sizes | {f"depth_head.{name}.bias": size[:1] for name, size in convs.items()}
