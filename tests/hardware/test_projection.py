"""Projection and alignment against the SDK's own functions."""

import math
from types import ModuleType

import numpy as np
import pytest

from hardware.geometry import DistortionModel, Extrinsics, Intrinsics
from hardware.projection import align_depth_to_rgb, deproject, pixel_from_norm, project
from tests.synthetic_scene import DEPTH_FROM_RGB, Scene, depth_camera, make_frame, rgb_camera

# Typical of a D400's colour camera (the polynomials), and lively for the fisheye models.
COEFFS = {
    DistortionModel.NONE: (0.0, 0.0, 0.0, 0.0, 0.0),
    DistortionModel.MODIFIED_BROWN_CONRADY: (0.12, -0.21, 0.001, -0.002, 0.05),
    DistortionModel.INVERSE_BROWN_CONRADY: (-0.055, 0.066, -0.0003, 0.0008, -0.021),
    DistortionModel.FTHETA: (0.92, 0.0, 0.0, 0.0, 0.0),
    DistortionModel.BROWN_CONRADY: (0.1, -0.2, 0.001, 0.002, 0.05),
    DistortionModel.KANNALA_BRANDT4: (0.1, -0.05, 0.02, -0.01, 0.0),
}
TURN = 0.02
RGB_FROM_DEPTH = Extrinsics(
    ((math.cos(TURN), 0, math.sin(TURN)), (0, 1, 0), (-math.sin(TURN), 0, math.cos(TURN))), (0.015, 0.001, -0.002)
)


def camera(model: DistortionModel, width: int = 640, height: int = 480, f: float = 613.2) -> Intrinsics:
    return Intrinsics(f, f + 0.3, width / 2 - 0.1, height / 2 - 0.8, width, height, model, COEFFS[model])


@pytest.mark.parametrize("model", DistortionModel)
def test_deprojection_equals_the_sdk(rs: ModuleType, model: DistortionModel) -> None:
    from tests.hardware.sdk_oracle import native_intrinsics

    rng = np.random.default_rng(0)
    pixels = np.stack([rng.integers(0, 640, 1000), rng.integers(0, 480, 1000)], axis=-1)
    z_m = rng.uniform(0.2, 4.0, 1000)
    native = native_intrinsics(camera(model))
    sdk = [
        rs.rs2_deproject_pixel_to_point(native, [float(u), float(v)], float(z))
        for (u, v), z in zip(pixels, z_m, strict=True)
    ]
    # the SDK counts in float32: a micrometre at 4 m
    np.testing.assert_allclose(deproject(pixels, z_m, camera(model)), sdk, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", DistortionModel)
def test_projection_equals_the_sdk(rs: ModuleType, model: DistortionModel) -> None:
    from tests.hardware.sdk_oracle import native_intrinsics

    rng = np.random.default_rng(1)
    points = rng.uniform((-0.4, -0.3, 0.5), (0.4, 0.3, 3.0), (1000, 3))
    native = native_intrinsics(camera(model))
    sdk = [rs.rs2_project_point_to_pixel(native, point.tolist()) for point in points]
    np.testing.assert_allclose(project(points, camera(model)), sdk, rtol=0, atol=5e-4)  # pixels


@pytest.mark.parametrize("model", DistortionModel)
def test_projection_undoes_deprojection_where_the_sdk_does(model: DistortionModel) -> None:
    rng = np.random.default_rng(2)
    pixels = rng.uniform((0, 0), (639, 479), (1000, 2))
    there_and_back = project(deproject(pixels, np.full(1000, 1.0), camera(model)), camera(model))
    worst_px = np.abs(there_and_back - pixels).max()
    if model in (DistortionModel.MODIFIED_BROWN_CONRADY, DistortionModel.FTHETA):
        assert worst_px > 1  # the SDK's own gap, followed on purpose: see the module's docstring
    else:
        assert worst_px < 1e-3


def test_hole_stays_hole() -> None:
    assert np.isnan(deproject((3, 4), np.nan, camera(DistortionModel.NONE))).all()


@pytest.mark.parametrize(
    ("norm", "pixel"),
    [((0.0, 0.0), (0, 0)), ((1.0, 1.0), (639, 479)), ((0.5, 0.5), (320, 240)), ((0.99999, 0.0), (639, 0))],
)
def test_pixel_of_a_normalised_point(norm: tuple[float, float], pixel: tuple[int, int]) -> None:
    assert pixel_from_norm(norm, 640, 480) == pixel


def bumpy_depth(width: int, height: int) -> np.ndarray:
    """A wave with a box in front of it, and holes."""
    depth = 1000 + 300 * np.sin(np.arange(width) / 40)[None] + np.arange(height)[:, None]
    depth[height // 4 : height // 2, width // 3 : width // 2] = 600
    depth[np.random.default_rng(3).random(depth.shape) < 0.02] = 0
    return depth.astype(np.uint16)


@pytest.mark.parametrize(
    ("depth_size", "rgb_size"),
    [
        pytest.param((640, 480, 390.4), (640, 480, 613.2), id="D435 640x480"),
        pytest.param((848, 480, 425.0), (848, 480, 615.0), id="D435 848x480"),
        pytest.param((848, 480, 425.0), (1280, 720, 920.0), id="RGB much finer"),
        pytest.param((848, 480, 425.0), (424, 240, 200.0), id="RGB coarser: one pixel each"),
        pytest.param((640, 480, 390.4), (640, 360, 300.0), id="the SDK's special size"),
    ],
)
def test_alignment_equals_the_sdk_in_every_pixel(
    rs: ModuleType, depth_size: tuple[int, int, float], rgb_size: tuple[int, int, float]
) -> None:
    from tests.hardware.sdk_oracle import native_frameset

    depth = camera(DistortionModel.NONE, *depth_size)
    rgb = camera(DistortionModel.NONE, *rgb_size)
    raw = bumpy_depth(depth.width, depth.height)
    frameset, owner = native_frameset(raw, depth, rgb, RGB_FROM_DEPTH)
    sdk = np.array(rs.align(rs.stream.color).process(frameset).get_depth_frame().get_data())
    ours = align_depth_to_rgb(
        raw,
        depth_unit_m=frameset.get_depth_frame().get_units(),
        depth_intrinsics=depth,
        rgb_intrinsics=rgb,
        rgb_from_depth=RGB_FROM_DEPTH,
    )
    assert (sdk > 0).mean() > 0.5
    # all pixels, but for corners that float32 puts on the other side of a pixel's edge
    assert (ours == sdk).mean() > 0.9999
    del frameset, owner


@pytest.mark.parametrize("model", [DistortionModel.INVERSE_BROWN_CONRADY, DistortionModel.KANNALA_BRANDT4])
def test_alignment_with_distortion_follows_the_sdks_point_functions(rs: ModuleType, model: DistortionModel) -> None:
    """`rs.align` leaves distortion out; its scalar functions, pixel by pixel, do not."""
    from tests.hardware.sdk_oracle import native_extrinsics, native_intrinsics

    depth, rgb = camera(DistortionModel.NONE, 40, 30, 24.0), camera(model, 60, 45, 55.0)
    raw = bumpy_depth(40, 30)
    k_depth, k_rgb, move = native_intrinsics(depth), native_intrinsics(rgb), native_extrinsics(RGB_FROM_DEPTH)
    expected = np.full((45, 60), 65535, np.uint16)
    for v, u in np.argwhere(raw > 0).tolist():
        corners = []
        for half in (-0.5, 0.5):
            point = rs.rs2_deproject_pixel_to_point(k_depth, [u + half, v + half], raw[v, u] * 0.001)
            point = rs.rs2_transform_point_to_point(move, point)
            corners.append([int(c + 0.5) for c in rs.rs2_project_point_to_pixel(k_rgb, point)])
        (u0, v0), (u1, v1) = corners
        patch = expected[max(v0, 0) : max(v1 + 1, 0), max(u0, 0) : max(u1 + 1, 0)]
        np.minimum(patch, raw[v, u], out=patch)
    expected[expected == 65535] = 0
    ours = align_depth_to_rgb(
        raw, depth_unit_m=0.001, depth_intrinsics=depth, rgb_intrinsics=rgb, rgb_from_depth=RGB_FROM_DEPTH
    )
    assert (ours == expected).mean() > 0.995
    assert (ours > 0).mean() > 0.5


def test_a_window_equals_that_part_of_the_whole() -> None:
    depth = camera(DistortionModel.NONE, 320, 240, 195.0)
    rgb = camera(DistortionModel.INVERSE_BROWN_CONRADY, 320, 240, 306.0)
    raw = bumpy_depth(320, 240)

    def align(window: tuple[int, int, int, int] | None) -> np.ndarray:
        return align_depth_to_rgb(
            raw,
            depth_unit_m=0.001,
            depth_intrinsics=depth,
            rgb_intrinsics=rgb,
            rgb_from_depth=RGB_FROM_DEPTH,
            window=window,
        )

    whole = align(None)
    rng = np.random.default_rng(4)
    for _ in range(60):
        x0, y0 = int(rng.integers(0, 310)), int(rng.integers(0, 230))
        x1, y1 = min(x0 + int(rng.integers(1, 40)), 320), min(y0 + int(rng.integers(1, 40)), 240)
        np.testing.assert_array_equal(align((x0, y0, x1, y1)), whole[y0:y1, x0:x1])


def test_depth_of_nothing_aligns_to_nothing() -> None:
    depth = camera(DistortionModel.NONE, 32, 24, 20.0)
    empty = align_depth_to_rgb(
        np.zeros((24, 32), np.uint16),
        depth_unit_m=0.001,
        depth_intrinsics=depth,
        rgb_intrinsics=depth,
        rgb_from_depth=Extrinsics(),
        window=(1, 2, 9, 7),
    )
    assert empty.shape == (5, 8)
    assert not empty.any()


def test_aligned_depth_is_the_depth_of_the_scene() -> None:
    """Against exact ray-cast depth of the RGB camera: only edges and shadows may differ."""
    frame = make_frame(Scene(), rgb=rgb_camera(320, 240), depth=depth_camera(320, 240))
    exact = make_frame(Scene(), rgb=rgb_camera(320, 240)).depth_m()
    assert frame.depth_from_rgb == DEPTH_FROM_RGB
    seen = np.isfinite(frame.depth_m())
    assert seen.mean() > 0.97
    close = np.abs(frame.depth_m()[seen] - exact[seen]) < 0.012  # a coarse depth pixel on a slanted table
    assert close.mean() > 0.96
