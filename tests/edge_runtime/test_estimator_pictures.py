"""Before and after the depth estimator: the same numbers as upstream's own steps, and no limit of memory passed."""

import cv2
import numpy as np
import pytest

from edge_runtime.errors import InferenceError
from edge_runtime.estimator_pictures import MEAN, STD, estimator_input, input_size, picture_of_estimate


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (686, 518)),
        ((480, 640), (518, 686)),
        ((1280, 720), (924, 518)),  # 920.9: to the nearest patch
        ((848, 480), (910, 518)),
        ((518, 518), (518, 518)),
        ((64, 64), (518, 518)),
        ((640, 638), (518, 518)),  # 519.6
        ((1000, 16), (1554, 518)),  # a strip is squeezed
        ((16, 100_000), (518, 1554)),
    ],
)
def test_the_shorter_side_decides(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(*size) == expected


@pytest.mark.parametrize("size", [(160, 120), (1280, 720), (33, 90)])
def test_pixels_are_upstreams(size: tuple[int, int]) -> None:
    """Upstream resizes all channels at once, in float64."""
    rgb = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    resized = cv2.resize(rgb / 255.0, input_size(*size), interpolation=cv2.INTER_CUBIC)
    expected = ((resized - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
    found = estimator_input(rgb)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(50, 40), (9, 7), (7, 30), (120, 100)])
def test_the_picture_is_upstreams(size: tuple[int, int]) -> None:
    """Stretched with aligned corners, brought between smallest and largest, truncated."""
    torch = pytest.importorskip("torch", reason="upstream's stretching is torch's")
    inverse = np.random.default_rng(2).random((30, 36), np.float32) * 7.0
    stretched = torch.nn.functional.interpolate(
        torch.from_numpy(inverse)[None, None], size[::-1], mode="bilinear", align_corners=True
    )[0, 0].numpy()
    expected = (stretched - stretched.min()) / (stretched.max() - stretched.min()) * 255.0
    found = picture_of_estimate(inverse, *size)
    assert found.dtype == np.uint8
    assert found.shape == (size[1], size[0], 3)
    assert (found == found[..., :1]).all()
    apart = np.abs(found[..., 0].astype(int) - expected.astype(np.uint8))
    assert apart.max() <= 1  # where rounding decides which side of a whole number
    assert (apart > 0).mean() < 0.01
    assert (found.min(), found.max()) == (0, 255)


def test_near_is_bright() -> None:
    inverse = np.zeros((37, 37), np.float32)
    inverse[:10] = 5.0
    picture = picture_of_estimate(inverse, 100, 100)
    assert picture[0, 0, 0] == 255
    assert picture[-1, -1, 0] == 0


def test_a_flat_estimate_is_black() -> None:
    assert not picture_of_estimate(np.full((37, 37), 0.7, np.float32), 20, 30).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_an_error(bad: float) -> None:
    inverse = np.ones((37, 37), np.float32)
    inverse[3, 4] = bad
    with pytest.raises(InferenceError, match="no numbers"):
        picture_of_estimate(inverse, 20, 30)
