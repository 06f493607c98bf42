"""A SigLIP tower computed the way a CPU likes it, for training.

The same weights and, to well below bfloat16's rounding, the same numbers as `VisionTower.forward` (a test says so).
Two things differ: attention is written as plain batched products, and the activation is the exact GELU instead of its
tanh approximation, which is within 5e-4 of it and costs a fifth on CPUs.

Letters: T tiles, N patches per tile, C width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

from train.model.vision_tower import VisionTower


def tower_features(tower: VisionTower, pixels: Tensor) -> Tensor:
    """Features [T, N, C] of normalised tiles [T, 3, h, w], as `tower(pixels)` gives them."""
    hidden = _embed(tower.vision_model.embeddings, pixels)
    for layer in tower.vision_model.encoder.layers[: tower.layers_run]:
        hidden = _layer(layer, hidden)
    return hidden[:, tower.first_token :] if tower.first_token else hidden


def _embed(embeddings: Any, pixels: Tensor) -> Tensor:
    """Patches as one matrix product: a convolution whose stride is its size."""
    conv = embeddings.patch_embedding
    side = conv.kernel_size[0]
    tiles, channels, height, width = pixels.shape
    patches = pixels.reshape(tiles, channels, height // side, side, width // side, side)
    rows = patches.permute(0, 2, 4, 1, 3, 5).reshape(tiles, -1, channels * side * side)
    return linear(rows, conv.weight.flatten(1), conv.bias) + embeddings.position_embedding.weight


def _layer(layer: Any, hidden: Tensor) -> Tensor:
    hidden = hidden + _attention(layer.self_attn, _norm(layer.layer_norm1, hidden))
    widened = linear(_norm(layer.layer_norm2, hidden), layer.mlp.fc1.weight, layer.mlp.fc1.bias)
    return hidden + linear(gelu(widened), layer.mlp.fc2.weight, layer.mlp.fc2.bias)


def _attention(attention: Any, hidden: Tensor) -> Tensor:
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    heads = attention.num_heads
    # [T, N, 3C] to three of [T, heads, N, C / heads]
    query, key, value = linear(hidden, weight, bias).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = torch.softmax((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2), dim=-1)
    mixed = (weights @ value).transpose(1, 2).flatten(2)
    return linear(mixed, attention.out_proj.weight, attention.out_proj.bias)


def _norm(norm: Any, hidden: Tensor) -> Tensor:
    return layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
