"""A frame checks what came in, locks it, and aligns depth only when asked."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hardware import frame as frame_module
from hardware.errors import FrameInvalid
from hardware.frame import Frame
from hardware.geometry import Extrinsics, Intrinsics
from hardware.projection import align_depth_to_rgb
from tests.synthetic_scene import Scene, make_frame, rgb_camera

SMALL = rgb_camera(64, 48)


@pytest.fixture
def aligned() -> Frame:
    frame = make_frame(Scene(), rgb=SMALL)
    raw = frame.depth_raw.copy()
    raw[10:20, 10:20] = 0
    return replace(frame, depth_raw=raw)


def test_holes_are_nan_and_never_zero(aligned: Frame) -> None:
    depth_m = aligned.depth_m()
    assert depth_m.dtype == np.float32
    assert np.isnan(depth_m[10:20, 10:20]).all()
    assert np.isfinite(depth_m).sum() == depth_m.size - 100
    np.testing.assert_allclose(depth_m[0], aligned.depth_raw[0] * 0.001, rtol=1e-6)


def test_arrays_are_read_only(aligned: Frame) -> None:
    for array in (aligned.rgb, aligned.depth_raw, aligned.depth_m(), aligned.depth_m_near((0, 0, 5, 5))):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


def test_registered_depth_is_not_drawn_again(aligned: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("aligned twice")

    monkeypatch.setattr(frame_module, "align_depth_to_rgb", never)
    assert aligned.depth_is_aligned
    assert aligned.depth_m().shape == (48, 64)


def test_alignment_happens_at_the_first_call_only(clip: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(options["window"])
        return align_depth_to_rgb(*args, **options)

    monkeypatch.setattr(frame_module, "align_depth_to_rgb", counted)
    frame = replace(clip[0])
    assert not calls
    part = frame.depth_m_near((20, 30, 41, 51))
    whole = frame.depth_m()
    assert frame.depth_m() is whole
    np.testing.assert_array_equal(part, whole[30:51, 20:41])
    np.testing.assert_array_equal(frame.depth_m_near((0, 0, 9, 9)), whole[:9, :9])
    assert calls == [(20, 30, 41, 51), None]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"rgb": np.zeros((48, 64), np.uint8)}, r"rgb picture is uint8 \[48, 64\]", id="grey"),
        pytest.param({"rgb": np.zeros((48, 64, 4), np.uint8)}, "rgb picture", id="with alpha"),
        pytest.param({"rgb": np.zeros((48, 63, 3), np.uint8)}, "rgb picture", id="another size"),
        pytest.param({"depth_raw": np.zeros((48, 64), np.uint8)}, "depth picture is uint8", id="8-bit depth"),
        pytest.param({"depth_raw": np.zeros((48, 64), np.float32)}, "depth picture", id="depth in metres"),
        pytest.param({"depth_raw": [[0]]}, "depth picture is list", id="no array"),
        pytest.param({"depth_unit_m": 0.0}, "depth unit", id="no unit"),
        pytest.param({"depth_unit_m": float("nan")}, "depth unit", id="unit is no number"),
    ],
)
def test_what_is_no_frame_is_refused(aligned: Frame, change: dict[str, Any], says: str) -> None:
    with pytest.raises(FrameInvalid, match=says):
        replace(aligned, **change)


def test_depth_in_another_size_is_registered_to_rgb() -> None:
    depth = Intrinsics(24.0, 24.0, 15.5, 11.5, 32, 24)
    rgb = Intrinsics(48.0, 48.0, 31.5, 23.5, 64, 48)
    frame = Frame(
        rgb=np.zeros((48, 64, 3), np.uint8),
        depth_raw=np.full((24, 32), 750, np.uint16),
        depth_unit_m=0.001,
        rgb_intrinsics=rgb,
        depth_intrinsics=depth,
        depth_from_rgb=Extrinsics(),
        id=0,
        t_capture_ns=1,
        t_device_ms=0.0,
    )
    assert not frame.depth_is_aligned
    np.testing.assert_allclose(frame.depth_m()[1:-1, 1:-1], 0.75, rtol=1e-6)
