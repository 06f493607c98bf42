"""A live view in Rerun: picture, depth, the points in the picture and in space, and what was said.

Sends to a viewer that listens (`rerun` on a laptop), or writes a .rrd file. It connects outwards only: nothing on the
robot listens for it.
"""

import socket
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ConfigError, DeviceError, StorageError
from edge_runtime.publish.base import insist_on_room, shown_points, shown_text
from edge_runtime.records import F64
from hardware.frame import Frame

APPLICATION = "roborefer_edge"
HOST, PORT = "127.0.0.1", 9876  # where a viewer on this machine listens
JPEG_QUALITY = 80  # a tenth of the bytes over the robot's radio
POINT_PX, RIM_PX, POINT_M = 7.0, 9.0, 0.015
PROBE_S = 0.5
# Where a person looks from at first, in the camera's frame (x right, y down, z forward): a little above and behind it.
EYE_M, LOOK_AT_M, UP = (0.35, -0.45, -0.35), (0.0, 0.05, 0.8), (0.0, -1.0, 0.0)
IMAGE = "base/camera/image"


class RerunSink:
    """Logs each record, and the frame it is about.

    Args:
        host: Where a viewer listens.
        port: Its port.
        path: A .rrd file instead.
        base_from_camera: float64 [4, 4], if known.

    Raises:
        ConfigError: The extra `viz` is not installed.
        StorageError: The file cannot be opened.
    """

    def __init__(
        self,
        host: str = HOST,
        port: int = PORT,
        *,
        path: Path | None = None,
        base_from_camera: F64 | None = None,
    ) -> None:
        try:
            import rerun
        except ImportError as error:
            raise ConfigError("the sink rerun needs an extra: pip install 'roborefer-edge[viz]'") from error
        self._rerun = rerun
        self._stream = rerun.RecordingStream(APPLICATION)
        self._base_from_camera = base_from_camera
        self._frame_id: int | None = None
        self._path = path
        self._to_connect: tuple[str, int] | None = None
        if path is not None:
            self._open_file(path)
            self._log_place()
        else:
            self._to_connect = (host, port)

    def write_with(self, record: dict[str, Any], frame: Frame | None) -> None:
        """Log a record, and its frame if that was not logged yet.

        Raises:
            DeviceError: No viewer listens yet.
            StorageError: The disk is nearly full; the library would lose what no longer fits without a word.
        """
        if self._path is not None:
            insist_on_room(self._path)
        if self._to_connect is not None:
            self._connect(*self._to_connect)
        if frame is not None:
            self._stream.set_time("camera", duration=frame.t_capture_ns * 1e-9)
            if frame.id != self._frame_id:
                self._log_frame(frame)
        self._log_points(record)
        self._stream.log("said", self._rerun.TextLog(shown_text(record)))

    def close(self) -> None:
        """Send what is on its way, for a moment; a viewer that is gone does not hold us.

        Raises:
            DeviceError: The viewer did not get everything.
        """
        if self._to_connect is not None:
            return
        try:
            self._stream.flush(timeout_sec=0.5)
            self._stream.disconnect()
        except RuntimeError as error:
            raise DeviceError(f"the viewer did not get everything: {error}") from error

    def _connect(self, host: str, port: int) -> None:
        """Connect once somebody listens: the library waits for seconds, at the end too, for a viewer that is not."""
        try:
            socket.create_connection((host, port), timeout=PROBE_S).close()
        except OSError as error:
            raise DeviceError(f"no viewer listens at {host}:{port} ({error}); start `rerun` there") from error
        self._stream.connect_grpc(f"rerun+http://{host}:{port}/proxy", default_blueprint=self._layout())
        self._to_connect = None
        self._log_place()

    def _open_file(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream.save(path, default_blueprint=self._layout())
        except (OSError, RuntimeError) as error:
            raise StorageError(f"cannot write {path}: {error}") from error

    def _log_place(self) -> None:
        rr = self._rerun
        if self._base_from_camera is not None:
            place = rr.Transform3D(translation=self._base_from_camera[:3, 3], mat3x3=self._base_from_camera[:3, :3])
            self._stream.log("base/camera", place, static=True)

    def _layout(self) -> Any:
        """The picture large, space and depth beside it, the answers below; a person may change it in the viewer."""
        import rerun.blueprint as layout

        eye = {}
        if self._base_from_camera is None:
            eye["eye_controls"] = layout.EyeControls3D(position=EYE_M, look_target=LOOK_AT_M, eye_up=UP)
        picture = layout.Spatial2DView(origin=IMAGE, contents=["$origin/rgb", "$origin/points/**"], name="picture")
        depth = layout.Spatial2DView(origin=IMAGE, contents=["$origin/depth", "depth"], name="depth")
        space = layout.Spatial3DView(origin="/", contents=["+ /base/**", f"- /{IMAGE}/rgb"], name="space", **eye)
        said = layout.TextLogView(origin="said", name="answers")
        left = layout.Vertical(picture, said, row_shares=[3, 1])
        return layout.Blueprint(layout.Horizontal(left, layout.Vertical(space, depth)), collapse_panels=True)

    def _log_frame(self, frame: Frame) -> None:
        rr, k = self._rerun, frame.rgb_intrinsics
        self._frame_id = frame.id
        lens = rr.Pinhole(
            focal_length=(k.fx, k.fy), principal_point=(k.cx, k.cy), width=k.width, height=k.height,
            camera_xyz=rr.ViewCoordinates.RDF,
        )  # fmt: skip
        self._stream.log(IMAGE, lens)
        self._stream.log(f"{IMAGE}/rgb", rr.Image(frame.rgb).compress(jpeg_quality=JPEG_QUALITY))
        depth = rr.DepthImage(np.asarray(frame.depth_raw), meter=1.0 / frame.depth_unit_m)
        aligned = frame.depth_is_aligned
        self._stream.log(f"{IMAGE}/depth" if aligned else "depth", depth)

    def _log_points(self, record: dict[str, Any]) -> None:
        rr, points = self._rerun, shown_points(record)
        colors = [(int(255 * (1 - p.confidence)), int(255 * p.confidence), 50) for p in points]
        pixels = [p.px for p in points]
        rims = rr.Points2D(pixels, colors=(255, 255, 255), radii=RIM_PX, draw_order=30)  # to be seen on any ground
        self._stream.log(f"{IMAGE}/points/rims", rims)
        self._stream.log(f"{IMAGE}/points", rr.Points2D(pixels, colors=colors, radii=POINT_PX, draw_order=31))
        places = [(p.camera_m, color) for p, color in zip(points, colors, strict=True) if p.camera_m is not None]
        self._stream.log(
            "base/camera/points", rr.Points3D([m for m, _ in places], colors=[c for _, c in places], radii=POINT_M)
        )
