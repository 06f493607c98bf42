"""The sheet of pictures: one panel per instruction, the newest answer in each, drawn where it was found."""

import numpy as np
import pytest

from edge_runtime.picture_sheet import COLUMNS, GAP_PX, PictureSheet
from edge_runtime.records import View
from tests.fakes import EchoReferrer

WIDTH, HEIGHT = 160, 120


def view(grey: int) -> View:
    return View(rgb=np.full((HEIGHT, WIDTH, 3), grey, np.uint8))


def test_it_answers_as_the_referrer_behind_it() -> None:
    behind = EchoReferrer()
    answer = PictureSheet(behind).refer([view(50)], "the cup")
    assert answer == EchoReferrer().refer([view(50)], "the cup")
    assert [text for text, _ in behind.asked] == ["the cup"]


def test_without_an_answer_there_is_no_sheet() -> None:
    assert PictureSheet(EchoReferrer()).image() is None


def test_each_panel_shows_the_newest_picture_of_its_instruction() -> None:
    sheet = PictureSheet(EchoReferrer())
    for text, grey in (("the cup", 10), ("the plate", 90), ("the cup", 200)):
        sheet.refer([view(grey)], text)
    image = sheet.image()
    assert image is not None
    pixels = np.asarray(image)
    assert pixels.shape == (HEIGHT, 2 * WIDTH + GAP_PX, 3)
    assert (pixels[5, 5] == 200).all()
    assert (pixels[5, WIDTH + GAP_PX + 5] == 90).all()
    ring = pixels[HEIGHT // 2 - 12 : HEIGHT // 2 + 12, WIDTH // 2 - 12 : WIDTH // 2 + 12]
    assert (ring[..., 0].astype(int) - ring[..., 2] > 100).any(), "the point is drawn"


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (COLUMNS, 1, COLUMNS), (COLUMNS + 1, 2, COLUMNS)])
def test_panels_wrap_into_rows(count: int, rows: int, columns: int) -> None:
    sheet = PictureSheet(EchoReferrer())
    for number in range(count):
        sheet.refer([view(10)], f"thing {number}")
    image = sheet.image()
    assert image is not None
    assert image.size == (columns * (WIDTH + GAP_PX) - GAP_PX, rows * (HEIGHT + GAP_PX) - GAP_PX)
