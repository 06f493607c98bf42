"""The SDK's own filter blocks on a real recording and through the software device; order and sizes against the SDK."""

import logging
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hardware.camera.depth_filters import DepthFilters, decimated
from hardware.camera.framesets import intrinsics_from_sdk
from hardware.camera.open import open_camera
from hardware.camera.process import ProcessCamera, ProcessLimits
from hardware.camera.settings import CameraSettings, DepthFilterSettings, SpatialFilter, TemporalFilter
from hardware.camera.software import STAND_IN_BASELINE_MM
from hardware.errors import CameraSettingRefused
from hardware.frame import Frame
from tests.hardware.sdk_oracle import native_frameset
from tests.hardware.test_replay import record

pytest.importorskip("pyrealsense2")

EVERYTHING = DepthFilterSettings(
    decimation=2, nearest_m=0.3, farthest_m=4, spatial=SpatialFilter(), temporal=TemporalFilter(), hole_filling=1
)


def stereo(rs: ModuleType, baseline_mm: float | None = STAND_IN_BASELINE_MM) -> Any:
    """A depth sensor of the SDK, with a baseline or without."""
    device = rs.software_device()
    sensor = device.add_sensor("Depth")
    if baseline_mm is not None:
        sensor.add_read_only_option(rs.option.stereo_baseline, baseline_mm)
    return sensor


def first_frame(spec: str, filters: DepthFilterSettings) -> Frame:
    with open_camera(spec, realtime=False, settings=CameraSettings(filters=filters)) as camera:
        frame = camera.read()
        assert camera.info.depth == frame.depth_intrinsics
    return frame


# --- which, and in what order ---------------------------------------------------------------------------


def test_nothing_is_filtered_unless_asked(rs: ModuleType) -> None:
    assert DepthFilters(rs, DepthFilterSettings(), stereo(rs)).names == []
    assert not DepthFilterSettings().any


@pytest.mark.real
def test_the_order_is_what_the_sdk_recommends_for_a_d435(rs: ModuleType, real: Path) -> None:
    context = rs.context()
    sensor = context.load_device(str(real / "d435_640x480.bag")).first_depth_sensor()
    recommended = [block.get_info(rs.camera_info.name) for block in sensor.get_recommended_filters()]
    ours = DepthFilters(rs, EVERYTHING, sensor).names
    assert ours[-1] == "Hole Filling Filter"  # the makers' document has it last, their list one place earlier
    assert ours[:-1] == [name for name in recommended if name in ours[:-1]]
    assert ours[:-1] == [
        "Decimation Filter", "Threshold Filter", "Depth to Disparity", "Spatial Filter", "Temporal Filter",
        "Disparity to Depth",
    ]  # fmt: skip


def test_disparity_is_only_for_what_works_on_it(rs: ModuleType) -> None:
    settings = DepthFilterSettings(decimation=2, nearest_m=0.3, hole_filling=1)
    assert DepthFilters(rs, settings, stereo(rs)).names == [
        "Decimation Filter",
        "Threshold Filter",
        "Hole Filling Filter",
    ]


def test_without_a_baseline_it_is_said_that_disparity_is_left_out(
    rs: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        filters = DepthFilters(rs, DepthFilterSettings(spatial=SpatialFilter()), stereo(rs, None))
    assert filters.names == ["Spatial Filter"]
    assert "no stereo baseline" in caplog.text


def test_every_number_reaches_the_sdk(rs: ModuleType) -> None:
    settings = DepthFilterSettings(
        decimation=3,
        farthest_m=2.5,
        spatial=SpatialFilter(magnitude=4, alpha=0.75, delta=7, holes_fill=2),
        temporal=TemporalFilter(alpha=0.25, delta=33, persistency=5),
        hole_filling=2,
    )
    blocks = dict(DepthFilters(rs, settings, stereo(rs))._blocks)
    option = rs.option

    def numbers(name: str, *options: Any) -> list[float]:
        return [blocks[name].get_option(o) for o in options]

    assert numbers("Decimation Filter", option.filter_magnitude) == [3]
    assert numbers("Threshold Filter", option.min_distance, option.max_distance) == [0, 2.5]
    smooth = (option.filter_smooth_alpha, option.filter_smooth_delta, option.holes_fill)
    assert numbers("Spatial Filter", option.filter_magnitude, *smooth) == [4, 0.75, 7, 2]
    assert numbers("Temporal Filter", *smooth) == [0.25, 33, 5]
    assert numbers("Hole Filling Filter", option.holes_fill) == [2]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"decimation": 9}, "decimation is 1 to 8, got 9"),
        ({"decimation": 0}, "decimation is 1 to 8, got 0"),
        ({"hole_filling": 3}, "hole_filling is 0 to 2"),
        ({"nearest_m": 2.0, "farthest_m": 1.0}, "nearest_m 2 is not below farthest_m 1"),
        ({"farthest_m": 17.0}, "farthest_m is 0 to 16"),
        ({"nearest_m": float("nan")}, "nearest_m is 0 to 16"),
    ],
)
def test_what_the_sdk_would_refuse_is_refused_before(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DepthFilterSettings(**wrong)


@pytest.mark.parametrize(("kind", "name"), [("spatial_filter", "spatial"), ("temporal_filter", "temporal")])
def test_limits_and_defaults_are_the_sdks(rs: ModuleType, kind: str, name: str) -> None:
    block = getattr(rs, kind)()
    record: type[SpatialFilter] | type[TemporalFilter] = SpatialFilter if name == "spatial" else TemporalFilter
    names = {"alpha": rs.option.filter_smooth_alpha, "delta": rs.option.filter_smooth_delta}
    names |= {"magnitude": rs.option.filter_magnitude, "holes_fill": rs.option.holes_fill} if name == "spatial" else {}
    for ours, option in names.items():
        limits = block.get_option_range(option)
        assert getattr(record(), ours) == pytest.approx(limits.default)
        for outside in (limits.min - 0.1, limits.max + 0.1):
            with pytest.raises(ValueError, match=ours):
                record(**{ours: outside})


# --- what they do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(640, 480), (848, 480), (160, 120), (424, 240)])
def test_a_decimated_camera_is_the_sdks(rs: ModuleType, clip: list[Frame], factor: int, size: tuple[int, int]) -> None:
    width, height = size
    camera = replace(clip[0].depth_intrinsics, width=width, height=height)
    depth_raw = np.full((height, width), 1000, np.uint16)
    frameset, owner = native_frameset(depth_raw, camera, clip[0].rgb_intrinsics, clip[0].depth_from_rgb.inverse())
    theirs = rs.decimation_filter(float(factor)).process(frameset.get_depth_frame())
    told = intrinsics_from_sdk(theirs.profile.as_video_stream_profile().get_intrinsics())
    ours = decimated(camera, factor)
    assert (ours.height, ours.width) == (told.height, told.width) == np.asarray(theirs.get_data()).shape
    assert (ours.fx, ours.fy, ours.cx, ours.cy) == pytest.approx((told.fx, told.fy, told.cx, told.cy), rel=1e-6)
    assert owner


@pytest.mark.real
def test_the_whole_chain_on_a_real_d435_is_the_sdks_own(rs: ModuleType, real: Path) -> None:
    path = str(real / "d435_640x480.bag")
    ours = first_frame(path, EVERYTHING)
    pipeline, config = rs.pipeline(), rs.config()
    config.enable_device_from_file(path, repeat_playback=False)
    pipeline.start(config)
    try:
        depth = pipeline.wait_for_frames(5000).get_depth_frame()
        threshold = rs.threshold_filter(0.3, 4.0)
        temporal = rs.temporal_filter(0.4, 20.0, 0)
        for block in (
            rs.decimation_filter(2.0), threshold, rs.disparity_transform(True), rs.spatial_filter(0.5, 20.0, 2.0, 0.0),
            temporal, rs.disparity_transform(False), rs.hole_filling_filter(1),
        ):  # fmt: skip
            depth = block.process(depth)
        theirs = np.array(depth.get_data())
    finally:
        pipeline.stop()
    assert ours.depth_raw.shape == (240, 320)
    np.testing.assert_array_equal(ours.depth_raw, theirs)
    assert ours.depth_intrinsics.fx == pytest.approx(195.216, abs=0.001)


@pytest.mark.real
def test_metres_stay_where_they_were_on_a_real_d435(real: Path) -> None:
    """Decimated and smoothed depth, aligned to RGB, is the unfiltered within the sensor's own error."""
    path = str(real / "d435_640x480.bag")
    plain = first_frame(path, DepthFilterSettings()).depth_m()
    filtered = first_frame(path, DepthFilterSettings(decimation=2, spatial=SpatialFilter())).depth_m()
    both = np.isfinite(plain) & np.isfinite(filtered)
    relative = np.abs(filtered - plain)[both] / plain[both]
    assert both.mean() > 0.85
    assert np.median(relative) < 0.005
    assert np.quantile(relative, 0.9) < 0.02


def test_the_threshold_makes_holes_of_what_is_outside(tmp_path: Path, clip: list[Frame]) -> None:
    folder = record(tmp_path / "clip", clip[:2])
    plain = first_frame(f"software:{folder}", DepthFilterSettings())
    middle_m = float(np.median(plain.depth_raw[plain.depth_raw > 0]) * plain.depth_unit_m)
    cut = first_frame(f"software:{folder}", DepthFilterSettings(farthest_m=middle_m))
    far = plain.depth_raw * plain.depth_unit_m > middle_m
    assert 0.1 < far.mean() < 0.9
    np.testing.assert_array_equal(cut.depth_raw, np.where(far, 0, plain.depth_raw))


def test_holes_stay_holes_through_spatial_and_temporal(tmp_path: Path, clip: list[Frame]) -> None:
    holed = []
    for number, frame in enumerate(clip[:6]):
        depth_raw = frame.depth_raw.copy()
        depth_raw[40:60, 10 * number : 10 * number + 20] = 0
        holed.append(replace(frame, depth_raw=depth_raw))
    folder = record(tmp_path / "clip", holed)
    smooth = DepthFilterSettings(spatial=SpatialFilter(), temporal=TemporalFilter())
    with open_camera(f"software:{folder}", realtime=False, settings=CameraSettings(filters=smooth)) as camera:
        for was in holed:
            frame = camera.read()
            np.testing.assert_array_equal(frame.depth_raw == 0, was.depth_raw == 0)
            np.testing.assert_array_equal(frame.rgb, was.rgb)


def test_smoothing_quietens_a_still_wall(tmp_path: Path, clip: list[Frame]) -> None:
    """A wall at 1 m with the noise of a stereo camera (0.1 px disparity): its scatter falls to less than half."""
    rng = np.random.default_rng(5)
    camera = clip[0].depth_intrinsics
    disparity_px = camera.fx * STAND_IN_BASELINE_MM / 1000.0
    wall = [
        replace(frame, depth_raw=np.rint(
            1000 * disparity_px / (disparity_px + rng.normal(0, 0.1, frame.depth_raw.shape))
        ).astype(np.uint16))
        for frame in clip
    ]  # fmt: skip
    folder = record(tmp_path / "clip", wall)
    smooth = CameraSettings(filters=DepthFilterSettings(spatial=SpatialFilter(), temporal=TemporalFilter()))
    with open_camera(f"software:{folder}", realtime=False, settings=smooth) as opened:
        last = [opened.read() for _ in wall][-1]
    assert np.std(last.depth_raw.astype(float)) < 0.5 * np.std(wall[-1].depth_raw.astype(float))
    assert np.mean(last.depth_raw) == pytest.approx(1000, abs=3)


def test_filters_reach_a_camera_in_its_own_process(tmp_path: Path, clip: list[Frame]) -> None:
    folder = record(tmp_path / "clip", clip)
    settings = CameraSettings(filters=DepthFilterSettings(decimation=2))
    limits = ProcessLimits(open_ms=60_000)  # of a busy test machine
    with ProcessCamera(f"software:{folder}", settings=settings, limits=limits) as camera:
        frame = camera.read(20_000)
        assert camera.info.depth == frame.depth_intrinsics
    assert frame.depth_raw.shape == (60, 80)
    assert frame.rgb.shape == (120, 160, 3)


def test_a_folder_without_the_sdk_refuses_filters(tmp_path: Path, clip: list[Frame]) -> None:
    folder = record(tmp_path / "clip", clip[:1])
    with pytest.raises(CameraSettingRefused, match="software:FOLDER"):
        open_camera(str(folder), settings=CameraSettings(filters=EVERYTHING))


def test_settings_travel_as_json() -> None:
    settings = CameraSettings(width=640, settle_frames=3, filters=EVERYTHING)
    assert CameraSettings.from_json(settings.to_json()) == settings
    assert CameraSettings.from_json(CameraSettings().to_json()) == CameraSettings()
