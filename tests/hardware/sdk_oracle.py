"""Our records as the SDK's own structs, written a second time so that a shared mistake cannot hide."""

from typing import Any

import numpy as np
import pyrealsense2 as rs

from hardware.geometry import Extrinsics, Intrinsics


def native_intrinsics(camera: Intrinsics) -> Any:
    native = rs.intrinsics()
    native.width, native.height = camera.width, camera.height
    native.fx, native.fy = camera.fx, camera.fy
    native.ppx, native.ppy = camera.cx, camera.cy
    native.model = rs.distortion.__members__[camera.model.value]
    native.coeffs = list(camera.coeffs)
    return native


def native_extrinsics(transform: Extrinsics) -> Any:
    native = rs.extrinsics()
    native.rotation = np.asarray(transform.rotation).flatten(order="F").tolist()
    native.translation = list(transform.translation_m)
    return native


def native_frameset(
    depth_raw: Any,
    depth: Intrinsics,
    rgb: Intrinsics,
    rgb_from_depth: Extrinsics,
    *,
    unit_m: float = 0.001,
    colour: tuple[Any, Any] | None = None,
) -> tuple[Any, Any]:
    """A frameset with this depth and colour (format, pixels; black by default), and what must outlive it."""
    black = (rs.format.rgb8, np.zeros((rgb.height, rgb.width, 3), np.uint8))
    pixel_format, picture = colour or black
    device = rs.software_device()
    streams: list[tuple[Any, Any, int, Intrinsics]] = []
    for name, kind, pixel, size, camera in (
        ("Depth", rs.stream.depth, rs.format.z16, 2, depth),
        ("Color", rs.stream.color, pixel_format, picture.shape[2], rgb),
    ):
        sensor = device.add_sensor(name)
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fps = kind, 0, len(streams), 30
        stream.width, stream.height, stream.bpp, stream.fmt = camera.width, camera.height, size, pixel
        stream.intrinsics = native_intrinsics(camera)
        streams.append((sensor, sensor.add_video_stream(stream), size, camera))
    streams[0][0].add_read_only_option(rs.option.depth_units, unit_m)
    streams[0][1].register_extrinsics_to(streams[1][1], native_extrinsics(rgb_from_depth))
    device.create_matcher(rs.matchers.dlr_c)
    syncer = rs.syncer()
    for sensor, profile, _, _ in streams:
        sensor.open(profile)
        sensor.start(syncer)
    for number in range(1, 10):
        for (sensor, profile, size, camera), pixels in zip(streams, (depth_raw, picture), strict=True):
            sensor.set_metadata(rs.frame_metadata_value.actual_fps, 30000)
            frame = rs.software_video_frame()
            frame.pixels, frame.bpp, frame.stride = np.ascontiguousarray(pixels), size, camera.width * size
            frame.timestamp, frame.frame_number = number * 100 / 3, number
            frame.domain = rs.timestamp_domain.hardware_clock
            frame.profile = profile.as_video_stream_profile()
            if size == 2:
                frame.depth_units = unit_m
            sensor.on_video_frame(frame)
        arrived, frameset = syncer.try_wait_for_frames(500)
        if arrived and frameset.get_depth_frame() and frameset.get_color_frame():
            return frameset, (device, streams, syncer)
    raise AssertionError("the SDK's syncer gave no pair")
