"""Lifting a pixel: equal to the SDK on flat ground, sensible at edges, honest over holes."""

import math
from typing import Any

import numpy as np
import pytest

from edge_runtime.deproject import MAX_WINDOW_PX, lift, surface_at, surface_depth_m
from edge_runtime.errors import DepthError
from hardware.geometry import DistortionModel, Intrinsics
from tests.synthetic_scene import Scene, Sphere, camera_on_arc, make_frame, render, rgb_camera

COEFFS = {
    "none": (0.0, 0.0, 0.0, 0.0, 0.0),
    "modified_brown_conrady": (0.12, -0.21, 0.001, -0.002, 0.05),
    "inverse_brown_conrady": (-0.055, 0.066, -0.0003, 0.0008, -0.021),
    "ftheta": (0.92, 0.0, 0.0, 0.0, 0.0),
    "brown_conrady": (0.1, -0.2, 0.001, 0.002, 0.05),
    "kannala_brandt4": (0.1, -0.05, 0.02, -0.01, 0.0),
}
PINHOLE = Intrinsics(60.0, 60.0, 31.5, 23.5, 64, 48)
NEAR_M, FAR_M = 0.6, 1.0


def flat(depth_m: float = FAR_M) -> Any:
    return np.full((48, 64), depth_m, np.float32)


@pytest.mark.parametrize("model", COEFFS)
def test_lift_equals_the_sdk_on_1000_pixels(model: str) -> None:
    rs = pytest.importorskip("pyrealsense2")
    camera = Intrinsics(613.2, 613.5, 319.9, 239.2, 640, 480, DistortionModel(model), COEFFS[model])
    native = rs.intrinsics()
    native.width, native.height, native.fx, native.fy = 640, 480, 613.2, 613.5
    native.ppx, native.ppy, native.coeffs = 319.9, 239.2, list(COEFFS[model])
    native.model = getattr(rs.distortion, model)
    rng = np.random.default_rng(7)
    # blocks of one depth each, so that the window's median is the pixel's own depth
    blocks = rng.uniform(0.2, 4.0, (48, 64)).astype(np.float32)
    depth_m = blocks.repeat(10, axis=0).repeat(10, axis=1)
    for u, v in zip(rng.integers(0, 640, 1000).tolist(), rng.integers(0, 480, 1000).tolist(), strict=True):
        z_m = surface_depth_m((u, v), depth_m, window_px=1, max_window_px=1)
        assert z_m == depth_m[v, u]
        expected = rs.rs2_deproject_pixel_to_point(native, [float(u), float(v)], z_m)
        point = lift((u, v), depth_m, camera, window_px=1, max_window_px=1)
        assert point.depth_reason is None
        assert point.camera_m == pytest.approx(expected, abs=2e-6)  # metres; the SDK counts in float32


def test_noise_is_voted_down() -> None:
    depth_m = flat()
    depth_m[20, 30] = 0.97  # the pixel itself is off, by less than a gap
    depth_m[19, 29] = 3.0
    assert surface_depth_m((30, 20), depth_m) == pytest.approx(FAR_M)


@pytest.mark.parametrize(
    ("pixel", "expected_m"),
    [((31, 20), NEAR_M), ((32, 20), FAR_M), ((30, 20), NEAR_M), ((33, 20), FAR_M)],
    ids=["last of the object", "first behind it", "inside", "outside"],
)
def test_at_an_edge_the_pixels_own_surface_counts(pixel: tuple[int, int], expected_m: float) -> None:
    depth_m = flat()
    depth_m[:, :32] = NEAR_M
    assert surface_depth_m(pixel, depth_m) == pytest.approx(expected_m)


@pytest.mark.parametrize("centre_m", [np.nan, 0.8], ids=["hole", "smear between the surfaces"])
def test_between_two_surfaces_the_nearer_counts(centre_m: float) -> None:
    depth_m = flat()
    depth_m[:, :32] = NEAR_M
    depth_m[20, 32] = centre_m
    assert surface_depth_m((32, 20), depth_m) == pytest.approx(NEAR_M)


def test_a_few_near_pixels_are_no_surface() -> None:
    depth_m = flat()
    depth_m[20, 30] = np.nan
    depth_m[18, 28:31] = 0.3  # 3 of 24: flying pixels
    assert surface_depth_m((30, 20), depth_m) == pytest.approx(FAR_M)


def test_a_slanted_table_is_one_surface() -> None:
    depth_m = (1.5 - 0.007 * np.arange(48, dtype=np.float32))[:, None].repeat(64, axis=1)
    assert surface_depth_m((30, 20), depth_m) == pytest.approx(float(depth_m[20, 30]), abs=1e-6)


@pytest.mark.parametrize(("hole_px", "found"), [(3, True), (15, True), (MAX_WINDOW_PX, False)])
def test_the_window_grows_over_a_hole_up_to_its_limit(hole_px: int, found: bool) -> None:
    depth_m = flat()
    half = hole_px // 2
    depth_m[24 - half : 24 + half + 1, 32 - half : 32 + half + 1] = np.nan
    point = lift((32, 24), depth_m, PINHOLE)
    if found:
        assert point.camera_m is not None
        assert point.camera_m[2] == pytest.approx(FAR_M)
    else:
        assert (point.camera_m, point.depth_reason) == (None, "hole")


def test_zero_is_no_depth() -> None:
    assert lift((32, 24), flat(0.0), PINHOLE).depth_reason == "hole"


@pytest.mark.parametrize("pixel", [(0, 0), (63, 47), (63, 0)])
def test_corners_of_the_picture(pixel: tuple[int, int]) -> None:
    point = lift(pixel, flat(), PINHOLE)
    assert point.camera_m == pytest.approx(((pixel[0] - 31.5) / 60, (pixel[1] - 23.5) / 60, 1.0))


def test_a_picture_of_one_pixel() -> None:
    one = Intrinsics(1.0, 1.0, 0.0, 0.0, 1, 1)
    assert lift((0, 0), np.full((1, 1), 0.5, np.float32), one).camera_m == (0.0, 0.0, 0.5)


def test_what_is_missing_is_said() -> None:
    assert lift((1, 1), None, PINHOLE).depth_reason == "no_depth"
    assert lift((1, 1), flat(), None).depth_reason == "no_intrinsics"


@pytest.mark.parametrize(
    ("intrinsics", "base_from_camera"),
    [
        pytest.param(Intrinsics(1e-3, 1e-3, 1e308, 23.5, 64, 48), None, id="centre far outside"),
        pytest.param(Intrinsics(60, 60, 31.5, 23.5, 64, 48, DistortionModel.FTHETA), None, id="no field of view"),
        pytest.param(PINHOLE, np.full((4, 4), 1.7e308), id="base far away"),
    ],
)
def test_numbers_without_a_ray_give_a_reason_not_infinity(intrinsics: Intrinsics, base_from_camera: Any) -> None:
    point = lift((63, 24), flat(3.0), intrinsics, base_from_camera=base_from_camera)
    assert (point.camera_m, point.base_m, point.depth_reason) == (None, None, "no_intrinsics")


def test_base_frame() -> None:
    # camera looks straight down from 0.8 m over the base's origin, its x along the base's x
    base_from_camera = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.8], [0, 0, 0, 1]], float)
    point = lift((43, 24), flat(0.8), PINHOLE, base_from_camera=base_from_camera)
    assert point.camera_m == pytest.approx((11.5 / 60 * 0.8, 0.5 / 60 * 0.8, 0.8))
    assert point.base_m == pytest.approx((11.5 / 60 * 0.8, -0.5 / 60 * 0.8, 0.0), abs=1e-7)


@pytest.mark.parametrize(
    ("pixel", "depth_m"),
    [((64, 10), flat()), ((-1, 10), flat()), ((1, 1), np.ones((48, 63), np.float32))],
    ids=["right of the picture", "left of the picture", "depth of another size"],
)
def test_what_does_not_belong_together_is_refused(pixel: tuple[int, int], depth_m: Any) -> None:
    with pytest.raises(DepthError):
        lift(pixel, depth_m, PINHOLE)


def test_points_on_the_scenes_balls_lie_on_them() -> None:
    """Against exact geometry: the pixel in the middle of each ball lifts to its front."""
    scene, camera = Scene(), rgb_camera(320, 240)
    frame, pose = make_frame(scene, rgb=camera), camera_on_arc(0.5)
    seen = render(scene, pose, camera, shadow_samples=0)
    for index in (0, 1, 2):
        v, u = (int(np.median(axis)) for axis in np.nonzero(seen.object_index == index))
        point = lift((u, v), frame.depth_m(), frame.rgb_intrinsics, base_from_camera=pose)
        assert point.base_m is not None
        ball = scene.objects[index]
        assert isinstance(ball, Sphere)
        # half a millimetre of rounding, and the median of a window that sees the ball bend
        assert math.dist(point.base_m, ball.centre) == pytest.approx(ball.radius, abs=0.003)


# --- how far to trust it -----------------------------------------------------------------------------

DISPARITY_PX_M = 30.0  # focal length times baseline of a D435 at 640x480


def noisy_plane(rng: np.random.Generator) -> tuple[Any, Any]:
    """A tilted plane (exact), and as a stereo camera sees it: disparity noise that neighbours share."""
    slope = rng.uniform(-0.004, 0.004, 2)
    rows, columns = np.mgrid[-24:24, -32:32]
    exact = (rng.uniform(0.4, 2.5) * (1 + slope[0] * columns + slope[1] * rows)).astype(np.float32)
    noise = rng.normal(0, 1, (56, 72))
    shared = sum(noise[i : i + 48, j : j + 64] for i in range(8) for j in range(8)) / 8.0
    seen = DISPARITY_PX_M / (DISPARITY_PX_M / exact + 0.08 * shared)
    return exact, (np.round(seen * 1000) / 1000).astype(np.float32)


@pytest.mark.parametrize("hole_px", [0, 1, 7], ids=["whole", "the pixel is a hole", "a hole around it"])
def test_the_stated_deviation_is_the_real_one(hole_px: int) -> None:
    """Over 400 planes with exact truth: two deviations hold at least 90 % of the errors, and are not idle."""
    rng = np.random.default_rng(5)
    errors_in_sigmas = []
    for _ in range(400):
        exact, seen = noisy_plane(rng)
        if hole_px:
            half = hole_px // 2
            seen[24 - half : 25 + half, 32 - half : 40] = np.nan  # open to one side, as beside an object's edge
        found = surface_at((32, 24), seen)
        assert found.z_m is not None
        assert found.sigma_m is not None
        errors_in_sigmas.append(abs(found.z_m - float(exact[24, 32])) / found.sigma_m)
    assert np.mean(np.array(errors_in_sigmas) <= 2) >= 0.9
    assert np.mean(np.array(errors_in_sigmas) <= 0.25) <= 0.6  # normal noise: 0.2


def test_validity_is_the_share_of_depth_around_the_pixel() -> None:
    depth_m = flat()
    assert lift((32, 24), depth_m, PINHOLE).depth_valid == 1.0
    depth_m[22:27, 32:35] = np.nan
    assert lift((32, 24), depth_m, PINHOLE).depth_valid == pytest.approx(10 / 25)
    depth_m[:] = np.nan
    point = lift((32, 24), depth_m, PINHOLE)
    assert (point.depth_valid, point.depth_sigma_m, point.depth_reason) == (0.0, None, "hole")
    assert lift((32, 24), None, PINHOLE).depth_valid is None


def test_farther_and_rougher_is_less_certain() -> None:
    def sigma_m(depth_m: Any) -> float:
        found = lift((32, 24), depth_m, PINHOLE).depth_sigma_m
        assert found is not None
        return found

    rough = flat() + np.random.default_rng(1).normal(0, 0.02, (48, 64)).astype(np.float32)
    assert sigma_m(flat(0.3)) < 0.001
    assert sigma_m(flat(1.0)) == pytest.approx(0.08 / 30, rel=0.05)
    assert sigma_m(flat(2.0)) == pytest.approx(4 * 0.08 / 30, rel=0.05)
    assert sigma_m(rough) > 3 * sigma_m(flat(1.0))
