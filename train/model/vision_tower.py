"""One SigLIP tower: normalised tiles to the patch features the projector reads.

The features are an inner hidden state, so the layers behind it are held (a checkpoint written back keeps
them) but never run. This module neither resizes pictures nor downsamples features.

Letters: T tiles, h w tile height and width, N patches per tile, C tower width.

Source: SigLIP (arXiv 2303.15343) as transformers' `SiglipVisionModel`; the layer selection is
golden/contract.md section 7.
"""

from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_in_backward
from transformers import SiglipVisionConfig, SiglipVisionModel

SelectFeature = Literal["cls_patch", "patch"]


class VisionTower(nn.Module):
    """SigLIP up to a selected hidden state.

    The names in `state_dict()` are the names on disk (`vision_model.*`).

    Args:
        config: Shape of the tower.
        select_layer: Which of the hidden states (embeddings, layer 1, ..., layer n) to return; negative counts
            from the end, so -2 is the input of the last layer.
        select_feature: "cls_patch" keeps all tokens, "patch" drops the first one.

    Raises:
        ValueError: The tower has no such hidden state or feature selection.
    """

    def __init__(
        self, config: SiglipVisionConfig, *, select_layer: int, select_feature: SelectFeature = "cls_patch"
    ) -> None:
        super().__init__()
        if select_feature not in ("cls_patch", "patch"):
            raise ValueError(f"select_feature {select_feature!r} is unknown; known are cls_patch and patch")
        self.layers_run = _layers_to_run(select_layer, config.num_hidden_layers)
        self.first_token = 1 if select_feature == "patch" else 0
        self.width: int = config.hidden_size
        self.image_px: int = config.image_size
        self.grid: int = config.image_size // config.patch_size
        # Recompute each layer in the backward pass instead of keeping its activations.
        self.gradient_checkpointing = False
        whole = SiglipVisionModel(config)
        # transformers nests the network one level down; a release that does not is the network itself
        self.vision_model: Any = getattr(whole, "vision_model", whole)

    @property
    def patches(self) -> int:
        """N: features per tile."""
        return self.grid * self.grid - self.first_token

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features of normalised tiles.

        Args:
            pixel_values: float [T, 3, h, w].

        Returns:
            float [T, N, C], before any final LayerNorm.
        """
        hidden = self.vision_model.embeddings(pixel_values)
        for layer in self.vision_model.encoder.layers[: self.layers_run]:
            hidden = self._run(layer, hidden)
        return hidden[:, self.first_token :] if self.first_token else hidden

    def _run(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        if self.gradient_checkpointing and self.training:
            output = recompute_in_backward(layer, hidden, None, use_reentrant=False)
        else:
            output = layer(hidden, None)
        # transformers before 4.57 wraps the layer's output in a tuple
        return output[0] if isinstance(output, tuple) else output


def _layers_to_run(select_layer: int, n_layers: int) -> int:
    index = select_layer if select_layer >= 0 else n_layers + 1 + select_layer
    if not 0 <= index <= n_layers:
        raise ValueError(f"select_layer {select_layer} is outside the {n_layers + 1} hidden states of this tower")
    return index
