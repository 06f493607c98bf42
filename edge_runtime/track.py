"""The target between answers: seeded by an answer about an old frame, carried to now, then told anew in every frame.

    tracker.ask_about(frame)            the frame a question is asked about; what comes after it is kept
    tracker.update(frame) -> Target     every camera frame, also while the question is being answered
    tracker.seed(frame.id, point_px)    the answer is there: followed through the kept frames to now

What is followed, and when it counts as lost, is `track_follow`; when to ask again is `track_asking`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_runtime.records import F64, FrameStamp, Target
from edge_runtime.track_follow import Follower, Sighting
from edge_runtime.track_view import TrackView
from hardware.frame import Frame

Clock = Callable[[], int]  # nanoseconds, monotonic, the clock frames are stamped with


@dataclass(frozen=True)
class TrackSettings:
    """How much is kept, and how fast trust in an answer fades."""

    # Frames kept while an answer is awaited. When they are full, every other one goes: an answer that takes long is
    # carried in longer steps, and carrying never takes longer than so many frames do.
    kept_frames: int = 16
    # Confidence falls to 37 % of the answer's in this time.
    fade_s: float = 20.0
    # Less confidence than this is lost.
    least_confidence: float = 0.05


@dataclass(frozen=True)
class Carried:
    """What became of an answer when it was carried to now."""

    kept: bool  # the tracker now follows it
    frames: int  # it was carried through
    reason: str | None = None  # why not
    px: tuple[int, int] | None = None  # where it is in the newest frame; None: not kept, or doubtful there


class Tracker:
    """Follows the newest answer at camera rate; used from one thread.

    Frames must keep their pixels: some are looked at again when the answer comes.

    Args:
        base_from_camera: [4, 4] of a camera that does not move, or None; `update` takes one for each frame.
        settings: see there.
        clock: must be the clock that stamped the frames.
    """

    def __init__(
        self,
        *,
        base_from_camera: F64 | None = None,
        settings: TrackSettings = TrackSettings(),
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self._base_from_camera = base_from_camera
        self._settings = settings
        self._clock = clock
        self._kept: list[TrackView] = []
        self._stride, self._skipped = 1, 0
        self._follower: Follower | None = None
        self._answered_ns, self._answer_confidence = 0, 0.0
        self._newest: TrackView | None = None
        self._why_lost = "no answer yet"

    @property
    def is_tracking(self) -> bool:
        """Whether a target is followed now."""
        return self._follower is not None

    def ask_about(self, frame: Frame, base_from_camera: F64 | None = None) -> None:
        """Begin to keep frames, from this one on; what was kept for an earlier question is dropped."""
        self._kept = [self._view(frame, base_from_camera)]
        self._stride, self._skipped = 1, 0

    def update(self, frame: Frame, base_from_camera: F64 | None = None) -> Target:
        """Follow the target into a newer frame.

        Args:
            frame: as the camera gave it.
            base_from_camera: [4, 4] at the frame's moment, where the camera is carried by the robot.

        Returns:
            Where the target is in it; lost where no answer has come yet.
        """
        self._newest = view = self._view(frame, base_from_camera)
        if self._kept and frame.id != self._kept[0].frame.id:
            self._keep(view)
        if self._follower is None:
            return self._lost(view, self._why_lost)
        return self._told(self._follower.step(view), view)

    def seed(
        self, frame_id: int, point_px: tuple[float, float], *, confidence: float = 1.0, place: bool | None = None
    ) -> Carried:
        """Take an answer over, and carry it from its frame to the newest.

        Whatever was followed before is given up only if the answer can be carried: a hand in the picture when the
        answer comes must not end a target that is in view.

        Args:
            frame_id: the frame the answer is about, as given to `ask_about`.
            point_px: column and row.
            confidence: of the answer, 0 to 1.
            place: whether it is a free place, to be held where the camera's pose is known; None: found out from depth,
                and not held, because a flat thing looks like a place.
        """
        kept, self._kept = self._kept, []
        if not kept or kept[0].frame.id != frame_id:
            return Carried(False, 0, f"frame {frame_id} is not kept; ask_about it first")
        follower = Follower(kept[0], np.asarray(point_px, np.float64), place=place)
        path = kept[1:]
        if self._newest is not None and path and path[-1] is not self._newest:
            path = [*path, self._newest]
        now_px: F64 | None = np.asarray(point_px, np.float64)
        for count, view in enumerate(path, 1):
            now_px = follower.step(view).px
            if follower.lost is not None:
                return Carried(False, count, follower.lost)
        self._follower, self._answer_confidence = follower, confidence
        self._answered_ns = kept[0].frame.t_capture_ns
        return Carried(True, len(path), px=None if now_px is None else (round(now_px[0]), round(now_px[1])))

    def clear(self) -> None:
        """Forget the target, for a question that was changed or cancelled."""
        self._follower, self._kept, self._why_lost = None, [], "no answer yet"

    # --- frames ---------------------------------------------------------------------------------------

    def _view(self, frame: Frame, base_from_camera: F64 | None) -> TrackView:
        return TrackView(frame, self._base_from_camera if base_from_camera is None else base_from_camera)

    def _keep(self, view: TrackView) -> None:
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._kept.append(view)
        self._skipped = 0
        if len(self._kept) > self._settings.kept_frames:
            self._kept = self._kept[::2]
            self._stride *= 2

    # --- records --------------------------------------------------------------------------------------

    def _told(self, sighting: Sighting, view: TrackView) -> Target:
        confidence = self._confidence(view) * sighting.quality
        if sighting.px is None or confidence < self._settings.least_confidence:
            reason = sighting.reason or "too long ago"
            if self._follower is not None and (self._follower.lost is not None or sighting.px is not None):
                self._follower, self._why_lost = None, reason
            return self._lost(view, reason)
        u, v = (round(float(x)) for x in sighting.px)
        return Target(
            state="tracking",
            px=(min(u, view.lens.width - 1), min(v, view.lens.height - 1)),
            camera_m=_xyz(sighting.camera_m),
            base_m=_xyz(_in_base(sighting.camera_m, view.base_from_camera)),
            confidence=confidence,
            age_ms=self._age_ms(view),
            frame=_stamp(view),
            reason=sighting.reason,
        )

    def _lost(self, view: TrackView, reason: str | None) -> Target:
        return Target("lost", None, None, None, 0.0, self._age_ms(view), _stamp(view), reason)

    def _confidence(self, view: TrackView) -> float:
        since_s = max(view.frame.t_capture_ns - self._answered_ns, 0) / 1e9
        return self._answer_confidence * math.exp(-since_s / self._settings.fade_s)

    def _age_ms(self, view: TrackView) -> float:
        return max(self._clock() - view.frame.t_capture_ns, 0) / 1e6


def _stamp(view: TrackView) -> FrameStamp:
    return FrameStamp(id=view.frame.id, width=view.lens.width, height=view.lens.height)


def _in_base(camera_m: F64 | None, base_from_camera: F64 | None) -> F64 | None:
    if camera_m is None or base_from_camera is None:
        return None
    return np.asarray(base_from_camera[:3, :3] @ camera_m + base_from_camera[:3, 3])


def _xyz(point_m: F64 | None) -> tuple[float, float, float] | None:
    if point_m is None:
        return None
    x, y, z = point_m.tolist()
    return x, y, z
