"""Examples to the tensors of one pass; all of them plain tensors, so that loaders can move and pin them.

Letters: B sequences, S tokens with one placeholder per block, T tiles, P pictures.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from edge_runtime.records import ViewTiles
from train.model.multiscale import TileGrid
from train.model.vlm import IGNORED_LABEL, MediaTiles
from train.stages.conversation import Example

# input_ids int64 [B, S], attention_mask bool [B, S], labels int64 [B, S];
# image_pixels and depth_pixels float [T, 3, h, w], image_grids and depth_grids int64 [P, 3] (tiles, rows, columns):
# absent where no sequence of the pass has such a picture.
Inputs = dict[str, Tensor]


def collate(examples: Sequence[Example], pixel_dtype: torch.dtype = torch.float32) -> Inputs:
    """One pass of some sequences.

    Args:
        examples: The sequences; RGB and RGB-D may be mixed.
        pixel_dtype: Of the tiles; half of float32 halves what loaders hold.
    """
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([e.input_ids for e in examples], batch_first=True)
    lengths = torch.tensor([len(e.input_ids) for e in examples])
    return {
        "input_ids": ids,
        "attention_mask": torch.arange(ids.shape[1]) < lengths[:, None],
        "labels": pad([e.labels for e in examples], batch_first=True, padding_value=IGNORED_LABEL),
        **_media("image", [view for e in examples for view in e.images], pixel_dtype),
        **_media("depth", [view for e in examples for view in e.depths], pixel_dtype),
    }


def media_of(inputs: Inputs, modality: str) -> MediaTiles | None:
    """The pictures of a pass as the network takes them."""
    if f"{modality}_pixels" not in inputs:
        return None
    grids = tuple(TileGrid(*row) for row in inputs[f"{modality}_grids"].tolist())
    return MediaTiles(inputs[f"{modality}_pixels"], grids)


def label_count(inputs: Iterable[Inputs]) -> int:
    """Tokens that are learnt from in some passes."""
    return sum(int((one["labels"] != IGNORED_LABEL).sum()) for one in inputs)


def _media(modality: str, views: Sequence[ViewTiles], dtype: torch.dtype) -> Inputs:
    if not views:
        return {}
    pixels = torch.from_numpy(np.concatenate([view.pixels for view in views])).to(dtype)
    grids = torch.tensor([[len(view.pixels), view.rows, view.cols] for view in views])
    return {f"{modality}_pixels": pixels, f"{modality}_grids": grids}
