"""Finds a camera, or a place to record to, by the name a user gives on the command line."""

from pathlib import Path

import hardware
from hardware.camera.base import FrameSource, Recorder
from hardware.camera.settings import CameraSettings
from hardware.camera.stream import StreamCamera
from hardware.errors import CameraNotFound, CameraSettingRefused

CHOICES = "realsense, realsense:SERIAL, software, software:FOLDER, a .db3, .bag or .mcap file, a replay folder"
RECORDING_SUFFIXES = (".db3", ".bag")


def open_camera(
    spec: str,
    *,
    realtime: bool | None = None,
    loop: bool = False,
    serial: str | None = None,
    settings: CameraSettings | None = None,
) -> StreamCamera:
    """Choose the camera a user named. It is opened by its `with` block.

    Args:
        spec: `realsense[:SERIAL]`, `software[:FOLDER]`, a .db3, .bag or .mcap file, a replay folder. `software` alone
            plays the shipped clip to and fro 30 times a second, as a camera that never ends.
        realtime: play at the recorded pace, so that slow readers lose frames. The default is False for
            recordings, which then give every frame, and True for the software camera, which plays a live one.
        loop: start a replay folder again at its end.
        serial: which live camera; also part of `realsense:SERIAL`.
        settings: what a live camera is asked for. Recordings of the SDK and the software camera take its depth
            filters alone; the other recordings take nothing.

    Raises:
        CameraNotFound: no such kind of camera, or no file or folder of that name.
        CameraSettingRefused: depth filters for what does not go through the SDK.
    """
    kind, _, rest = spec.partition(":")
    settings = settings or CameraSettings()
    if kind == "realsense":
        return _realsense(rest or serial, settings)
    if kind == "software":
        return StreamCamera(_software(rest, settings, realtime=realtime is not False, loop=loop))
    path = Path(spec)
    if path.suffix.lower() in RECORDING_SUFFIXES and not path.is_dir():
        return _recording(path, settings, realtime=bool(realtime))
    if settings.filters.any and path.exists():
        raise CameraSettingRefused(
            f"{spec} cannot have depth filters, they are the RealSense SDK's: leave them out, or play a replay folder "
            "through the SDK with software:FOLDER"
        )
    if path.suffix.lower() == ".mcap" and path.is_file():
        from hardware.camera.mcap_replay import McapSource

        return StreamCamera(McapSource(path))
    if spec and path.is_dir():
        return StreamCamera(_folder(path, realtime=bool(realtime), loop=loop))
    raise CameraNotFound(f"no camera {spec!r}: neither a kind of camera nor a file or folder; known are {CHOICES}")


def shipped_clip() -> Path:
    """The clip inside the wheel, or in the source tree when running from a checkout.

    Raises:
        CameraNotFound: it is in neither.
    """
    package = Path(hardware.__file__).parent
    places = (package / "demo_clip", package.parent / "models" / "nano" / "demo")
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise CameraNotFound(
            f"this installation has no clip of its own (looked in {' and '.join(map(str, places))}); "
            "install the wheel again, or name a replay folder: software:FOLDER"
        )
    return found


def open_recorder(path: Path, *, name: str = "", lossless: bool = True) -> Recorder:
    """Choose how to record: a .db3 file if the name ends so, else a replay folder.

    Args:
        path: where the recording shall appear.
        name: of the camera, kept in the recording.
        lossless: PNG instead of JPEG for the RGB pictures of a replay folder.
    """
    if path.suffix.lower() == ".db3":
        from hardware.camera.db3_writer import Db3Writer

        return Db3Writer(path, name=name)
    if path.suffix.lower() == ".bag":
        raise CameraNotFound(f"cannot record to {path}: the SDK writes .db3 only; give a .db3 name or a folder")
    from hardware.camera.replay_writer import ReplayWriter

    return ReplayWriter(path, name=name, rgb_format="png" if lossless else "jpg")


def _realsense(serial: str | None, settings: CameraSettings) -> StreamCamera:
    from hardware.camera.realsense import RealSenseSource
    from hardware.camera.settled import SettledSource

    return StreamCamera(SettledSource(RealSenseSource(serial=serial, settings=settings), settings.settle_frames))


def _recording(path: Path, settings: CameraSettings, *, realtime: bool) -> StreamCamera:
    from hardware.camera.realsense import RealSenseSource
    from hardware.camera.recording_check import prove_recording

    if path.is_file():
        prove_recording(path)
    return StreamCamera(RealSenseSource(path, settings=settings, realtime=realtime))


def _folder(path: Path, *, realtime: bool, loop: bool) -> FrameSource:
    from hardware.camera.replay import ReplaySource

    return ReplaySource(path, realtime=realtime, loop=loop)


def _software(folder: str, settings: CameraSettings, *, realtime: bool, loop: bool) -> FrameSource:
    from hardware.camera.software import SoftwareSource

    if realtime and not folder:
        from hardware.camera.to_and_fro import ToAndFroSource

        return SoftwareSource(ToAndFroSource(shipped_clip()), filters=settings.filters)
    place = Path(folder) if folder else shipped_clip()
    feed = _folder(place, realtime=realtime, loop=loop or not folder)
    return SoftwareSource(feed, filters=settings.filters)
