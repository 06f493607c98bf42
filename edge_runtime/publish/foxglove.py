"""Frames and records as messages in Foxglove's schemas, so that any viewer that knows them can show ours.

Frames of reference: `camera` is the RGB camera (x right, y down, z forward), `base` the robot's base.
"""

import json
from typing import Any

from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate

from edge_runtime.publish.base import shown_points, shown_text
from edge_runtime.records import F64
from hardware.frame import Frame
from hardware.geometry import DistortionModel, Intrinsics

CAMERA_FRAME, BASE_FRAME = "camera", "base"
SPHERE_M = 0.02
LIFETIME_S = 2
CIRCLE_PX = 16.0
# Viewers undistort pictures by these; other models of a RealSense are given as a pinhole, exact in the metadata.
_MODELS = {DistortionModel.BROWN_CONRADY: "plumb_bob", DistortionModel.KANNALA_BRANDT4: "kannala_brandt"}


def rgb_image(frame: Frame, t_ns: int) -> RawImage:
    """The picture, lossless."""
    height, width = frame.rgb.shape[:2]
    message = RawImage(
        frame_id=CAMERA_FRAME, width=width, height=height, encoding="rgb8", step=3 * width, data=frame.rgb.tobytes()
    )
    message.timestamp.FromNanoseconds(t_ns)
    return message


def depth_image(frame: Frame, t_ns: int) -> RawImage:
    """The raw depth, counts of the camera's unit (mostly millimetres), 0 = hole."""
    height, width = frame.depth_raw.shape
    data = frame.depth_raw.astype("<u2", copy=False).tobytes()
    frame_id = CAMERA_FRAME if frame.depth_is_aligned else f"{CAMERA_FRAME}_depth"
    message = RawImage(frame_id=frame_id, width=width, height=height, encoding="16UC1", step=2 * width, data=data)
    message.timestamp.FromNanoseconds(t_ns)
    return message


def calibration(intrinsics: Intrinsics, t_ns: int) -> CameraCalibration:
    """The RGB camera's lens."""
    k = [intrinsics.fx, 0.0, intrinsics.cx, 0.0, intrinsics.fy, intrinsics.cy, 0.0, 0.0, 1.0]
    model = _MODELS.get(intrinsics.model, "")
    message = CameraCalibration(
        frame_id=CAMERA_FRAME,
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model=model,
        D=intrinsics.coeffs if model else (),
        K=k,
        R=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        P=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
    )
    message.timestamp.FromNanoseconds(t_ns)
    return message


def base_transform(base_from_camera: F64, t_ns: int) -> FrameTransform:
    """Where the camera is on the robot."""
    message = FrameTransform(parent_frame_id=BASE_FRAME, child_frame_id=CAMERA_FRAME)
    message.timestamp.FromNanoseconds(t_ns)
    x, y, z = base_from_camera[:3, 3].tolist()
    message.translation.x, message.translation.y, message.translation.z = x, y, z
    rotation = message.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion_xyzw(base_from_camera)
    return message


def annotations(record: dict[str, Any], t_ns: int) -> ImageAnnotations:
    """Circles in the picture, and a line of text."""
    message = ImageAnnotations()
    text = message.texts.add()
    text.timestamp.FromNanoseconds(t_ns)
    text.position.x, text.position.y, text.font_size, text.text = 8.0, 20.0, 16.0, shown_text(record)
    _paint(text.text_color)
    for point in shown_points(record):
        circle = message.circles.add()
        circle.timestamp.FromNanoseconds(t_ns)
        circle.position.x, circle.position.y = float(point.px[0]), float(point.px[1])
        circle.diameter, circle.thickness = CIRCLE_PX, 2.0
        _paint(circle.outline_color, point.confidence)
    return message


def scene(record: dict[str, Any], t_ns: int) -> SceneUpdate:
    """A ball at each point that has metres; it fades from view when no newer one comes."""
    message = SceneUpdate()
    for number, point in enumerate(shown_points(record), start=1):
        if point.camera_m is None:
            continue
        entity = message.entities.add()
        entity.timestamp.FromNanoseconds(t_ns)
        entity.frame_id, entity.id, entity.lifetime.seconds = CAMERA_FRAME, f"{record['kind']} {number}", LIFETIME_S
        ball = entity.spheres.add()
        ball.pose.position.x, ball.pose.position.y, ball.pose.position.z = point.camera_m
        ball.pose.orientation.w = 1.0
        ball.size.x = ball.size.y = ball.size.z = SPHERE_M
        _paint(ball.color, point.confidence)
    return message


def log_line(record: dict[str, Any], t_ns: int) -> Log:
    """The record itself, as a line of JSON in a log."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    message = Log(level=Log.INFO, name="roborefer-edge", message=line)
    message.timestamp.FromNanoseconds(t_ns)
    return message


def quaternion_xyzw(pose: F64) -> tuple[float, float, float, float]:
    """The rotation of a pose, in the form that loses nothing at any angle (the largest component first)."""
    r = pose[:3, :3]
    squares = [1 + r[0, 0] - r[1, 1] - r[2, 2], 1 - r[0, 0] + r[1, 1] - r[2, 2], 1 - r[0, 0] - r[1, 1] + r[2, 2]]
    squares.append(1 + r[0, 0] + r[1, 1] + r[2, 2])
    sums = {(0, 1): r[0, 1] + r[1, 0], (0, 2): r[0, 2] + r[2, 0], (1, 2): r[1, 2] + r[2, 1]}
    sums |= {(0, 3): r[2, 1] - r[1, 2], (1, 3): r[0, 2] - r[2, 0], (2, 3): r[1, 0] - r[0, 1]}
    largest = max(range(4), key=lambda index: float(squares[index]))
    scale = 2 * float(squares[largest]) ** 0.5
    parts = [
        scale / 4 if index == largest else float(sums[min(index, largest), max(index, largest)]) / scale
        for index in range(4)
    ]
    return parts[0], parts[1], parts[2], parts[3]


def _paint(color: Any, confidence: float = 1.0) -> None:
    """Green where the model is sure, red where it is not."""
    color.r, color.g, color.b, color.a = 1.0 - confidence, confidence, 0.2, 1.0
