"""The page of nouns shows every noun it was given, each in its colour."""

import numpy as np
from PIL import Image

from train.simulator.catalogue_page import CAPTION_PX, CELL_PX, catalogue_page


def test_every_noun_gets_a_cell_with_something_in_it() -> None:
    page = catalogue_page(("mug", "toy car", "duck"))
    assert isinstance(page, Image.Image)
    assert page.size[1] == CELL_PX + CAPTION_PX
    pixels = np.asarray(page).astype(int)
    for k in range(3):
        cell = pixels[10 : CELL_PX - 10, k * CELL_PX + 10 : (k + 1) * CELL_PX - 10]
        saturation = cell.max(-1) - cell.min(-1)
        assert (saturation > 60).mean() > 0.03
