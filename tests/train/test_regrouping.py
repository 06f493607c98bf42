"""The projector's regrouping and the tower's selection, against values small enough to write down."""

from typing import Any

import pytest
import torch
from transformers import SiglipVisionConfig

from edge_runtime.manifest import ProjectorKind
from train.model.projector import BLOCK_SIDE, Projector, Regroup
from train.model.vision_tower import VisionTower


def numbered(side: int, channels: int = 1) -> torch.Tensor:
    """One tile whose patch p has the values p, p + 0.1, ...: [1, side * side, channels]."""
    patches = torch.arange(side * side, dtype=torch.float32)[:, None]
    return (patches + 0.1 * torch.arange(channels))[None]


def test_two_by_two_order_is_row_column_channel() -> None:
    grouped = Regroup(2)(numbered(4, channels=2))
    assert grouped.shape == (1, 4, 8)
    # rows 0-1, columns 2-3 of the 4 x 4 grid
    expected = torch.tensor([2.0, 2.1, 3.0, 3.1, 6.0, 6.1, 7.0, 7.1])
    torch.testing.assert_close(grouped[0, 1], expected)


def test_odd_grid_is_padded_with_zeros_at_bottom_and_right() -> None:
    grouped = Regroup(3)(numbered(4) + 1.0)
    assert grouped.shape == (1, 4, 9)
    assert grouped[0, 1].tolist() == [4, 0, 0, 8, 0, 0, 12, 0, 0]
    assert grouped[0, 2].tolist() == [13, 14, 15, 0, 0, 0, 0, 0, 0]
    assert grouped[0, 3].tolist() == [16, 0, 0, 0, 0, 0, 0, 0, 0]


def test_features_that_form_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="15 patches do not form a square"):
        Regroup(2)(torch.zeros(1, 15, 4))


@pytest.mark.parametrize(
    ("kind", "patches", "tokens"),
    [("mlp_downsample", 1024, 256), ("mlp_downsample_2x2_fix", 25, 9), ("mlp_downsample_3x3_fix", 1024, 121)],
)
def test_tokens_per_tile(kind: ProjectorKind, patches: int, tokens: int) -> None:
    projector = Projector(kind, in_width=2, out_width=5)
    assert projector.tokens(patches) == tokens
    assert projector(torch.zeros(3, patches, 2)).shape == (3, tokens, 5)


@pytest.mark.parametrize(
    ("kind", "indices"),
    [
        ("mlp_downsample", {1, 2, 4}),
        ("mlp_downsample_2x2_fix", {1, 2, 4}),
        ("mlp_downsample_3x3_fix", {1, 2, 4, 5, 7}),
    ],
)
def test_tensor_names_on_disk(kind: ProjectorKind, indices: set[int]) -> None:
    names = Projector(kind, in_width=2, out_width=4).state_dict()
    assert set(names) == {f"layers.{i}.{end}" for i in indices for end in ("weight", "bias")}


def test_unknown_projector_names_the_known_ones() -> None:
    unknown: Any = "mlp_gelu"
    with pytest.raises(ValueError, match=r"mlp_gelu.*known are.*mlp_downsample") as caught:
        Projector(unknown, in_width=2, out_width=4)
    assert all(kind in str(caught.value) for kind in BLOCK_SIDE)


# --- tower --------------------------------------------------------------------------------------------


def tower(**options: Any) -> VisionTower:
    shape = SiglipVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=12, patch_size=4
    )
    torch.manual_seed(0)
    return VisionTower(shape, **options).eval()


@torch.no_grad()
def test_layers_behind_the_selected_state_are_kept_but_never_run() -> None:
    selected = tower(select_layer=-2)
    pixels = torch.rand(2, 3, 12, 12)
    before = selected(pixels)
    last = selected.vision_model.encoder.layers[-1]
    for parameter in [*last.parameters(), *selected.vision_model.post_layernorm.parameters()]:
        parameter.fill_(float("nan"))
    assert torch.equal(selected(pixels), before)
    assert "vision_model.encoder.layers.2.mlp.fc1.weight" in selected.state_dict()


@torch.no_grad()
def test_patch_drops_the_first_feature() -> None:
    pixels = torch.rand(1, 3, 12, 12)
    all_of_them, without_first = tower(select_layer=-2), tower(select_layer=-2, select_feature="patch")
    assert (all_of_them.patches, without_first.patches) == (9, 8)
    assert torch.equal(without_first(pixels), all_of_them(pixels)[:, 1:])


@torch.no_grad()
def test_positive_and_negative_layers_count_the_same_list() -> None:
    pixels = torch.rand(1, 3, 12, 12)
    assert torch.equal(tower(select_layer=2)(pixels), tower(select_layer=-2)(pixels))
    embeddings = tower(select_layer=0)
    assert torch.equal(embeddings(pixels), embeddings.vision_model.embeddings(pixels))


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_the_tower_lacks_is_refused(layer: int) -> None:
    with pytest.raises(ValueError, match=f"{layer} is outside the 4 hidden states"):
        tower(select_layer=layer)


def test_unknown_features_are_refused() -> None:
    with pytest.raises(ValueError, match="'cls' is unknown; known are cls_patch and patch"):
        tower(select_layer=-2, select_feature="cls")


def test_recomputing_layers_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        one = tower(select_layer=-2).train()
        one.gradient_checkpointing = recompute
        one(torch.ones(1, 3, 12, 12)).square().sum().backward()
        gradients.append(one.vision_model.embeddings.patch_embedding.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
