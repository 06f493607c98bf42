"""Random blocks against the numpy reference of each type in the gguf package."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from bench.random_blocks import LAYOUTS, StorageType, random_matrix, row_bytes


def values(kind: StorageType, **options: object) -> np.ndarray:
    stored = random_matrix(kind, 96, 1024, random=np.random.default_rng(3), **options)  # type: ignore[arg-type]
    if kind in ("F16", "F32"):
        return stored.view(np.float16 if kind == "F16" else np.float32).astype(np.float32)
    return dequantize(stored, GGMLQuantizationType[kind])


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("std", [1.0, 0.0014])
def test_values_have_the_spread_that_was_asked_for(kind: StorageType, std: float) -> None:
    found = values(kind, std=std)
    assert found.shape == (96, 1024)
    assert np.isfinite(found).all()
    # 98304 values tell the spread to 0.3 %; a half-precision step has 0.1 %, and far fewer digits where it is tiny
    assert found.std() == pytest.approx(std, rel=0.015)
    assert abs(found.mean()) < 0.02 * std


@pytest.mark.parametrize("kind", LAYOUTS)
def test_silent_rows_are_zero_and_their_neighbours_are_not(kind: StorageType) -> None:
    found = values(kind, std=1.0, zero_rows=(7,))
    assert not found[7].any()
    assert found[6].any()
    assert found[8].any()


@pytest.mark.parametrize("kind", ["Q4_K", "Q4_0"])
def test_the_same_stream_gives_the_same_bytes(kind: StorageType) -> None:
    one, other = (random_matrix(kind, 8, 256, std=1.0, random=np.random.default_rng(5)) for _ in range(2))
    assert (one == other).all()


def test_a_width_that_is_no_multiple_of_the_block_is_refused() -> None:
    assert row_bytes("Q4_0", 96) == 54
    with pytest.raises(ValueError, match="blocks of 256 values, a row of 96"):
        row_bytes("Q6_K", 96)
