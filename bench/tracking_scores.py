"""How well a target was followed through clips whose truth is known: pure numbers, nothing is run here.

Counted is only what a robot would act on: the published pixel, and the word "tracking".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench.tracking_clips import KINDS, TrackingClip
from edge_runtime.records import Target

HIDDEN_FRAMES = 5  # a target hidden for fewer in a row was not occluded
GRACE_FRAMES = 5  # that a tracker may take to notice
FAR_PX = 25.0  # farther from the target than this is a wrong place; on the right thing it is counted apart
NEAR_PX = 3  # the target's own pixels may be so far from the published one: masks end at outlines

MEDIAN_ERROR_PX, OCCLUSION_FRAMES = 4.0, 5
WRONG_SHARE = 0.05  # of the clips; both for what is wrong, and for what is wrong or far, as the bar first was
FRAMES_PER_S, CPU_SHARE, CLIPS_PER_KIND = 30.0, 0.3, 15


@dataclass(frozen=True)
class ClipScore:
    """What became of one clip."""

    name: str
    kind: str
    errors_px: tuple[float, ...]  # while tracking a target that shows, before it was first occluded
    kept: float  # share of the frames before the occlusion in which it was tracked
    lost_at: int | None  # first frame that says lost
    reason: str | None
    hidden_at: int | None  # first frame of the first occlusion
    noticed_after: int | None  # frames from there until lost was said; None: never, or no occlusion
    wrong_at: int | None  # first frame that says tracking on another thing, or far from a free place
    far_at: int | None  # the same on the right thing, but far from the point
    position_error_m: float | None  # median, in the camera frame
    cpu_ms: tuple[float, ...]  # of each frame until lost: afterwards there is nothing to do; the answer's own included
    wall_ms: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The object of a clip in the report."""
        return {
            "name": self.name,
            "kind": self.kind,
            "median_error_px": _median(self.errors_px),
            "worst_error_px": round(max(self.errors_px), 2) if self.errors_px else None,
            "kept": round(self.kept, 3),
            "lost_at": self.lost_at,
            "reason": self.reason,
            "hidden_at": self.hidden_at,
            "noticed_after": self.noticed_after,
            "wrong_at": self.wrong_at,
            "far_at": self.far_at,
            "position_error_m": None if self.position_error_m is None else round(self.position_error_m, 4),
            "cpu_ms": round(float(np.mean(self.cpu_ms)), 2),
        }


def score_clip(
    clip: TrackingClip, targets: Sequence[Target], cpu_ms: Sequence[float], wall_ms: Sequence[float], first: int
) -> ClipScore:
    """Hold the targets of a clip against its truth.

    Args:
        clip: with its truth.
        targets: one for each frame.
        cpu_ms: processor time of each frame.
        wall_ms: the same on the clock.
        first: the first frame after the answer arrived; earlier ones count for nothing but time.
    """
    hidden_at = hidden_from(clip)
    shown = range(first, hidden_at if hidden_at is not None else len(targets))
    faults = [_fault(clip, target, i) if i >= first else None for i, target in enumerate(targets)]
    seen = [i for i in shown if targets[i].px is not None and clip.frames[i].visible]
    lost_at = next((i for i in range(first, len(targets)) if targets[i].px is None), None)
    after = range(len(targets) if hidden_at is None else hidden_at, len(targets))
    noticed = next((i for i in after if targets[i].px is None), None)
    return ClipScore(
        name=clip.name,
        kind=clip.kind,
        errors_px=tuple(_error_px(clip, targets, i) for i in seen),
        kept=sum(targets[i].px is not None for i in shown) / max(len(shown), 1),
        lost_at=lost_at,
        reason=None if lost_at is None else targets[lost_at].reason,
        hidden_at=hidden_at,
        noticed_after=None if noticed is None or hidden_at is None else noticed - hidden_at,
        wrong_at=faults.index("wrong") if "wrong" in faults else None,
        far_at=faults.index("far") if "far" in faults else None,
        position_error_m=_position_error(clip, targets, seen),
        cpu_ms=tuple(cpu_ms[: None if lost_at is None else lost_at + 1]),
        wall_ms=tuple(wall_ms[: None if lost_at is None else lost_at + 1]),
    )


def hidden_from(clip: TrackingClip) -> int | None:
    """The first frame from which the target is hidden for `HIDDEN_FRAMES` or more."""
    shows = [frame.visible for frame in clip.frames]
    runs = (i for i in range(len(shows) - HIDDEN_FRAMES + 1) if not any(shows[i : i + HIDDEN_FRAMES]))
    return next(runs, None)


def summarise(scores: Sequence[ClipScore], fps: float) -> dict[str, Any]:
    """Figures over all clips and by kind, and the bars with whether they were met."""
    overall = _figures(scores, fps)
    kinds = {kind: [score for score in scores if score.kind == kind] for kind in KINDS}
    by_kind = {kind: _figures(some, fps) for kind, some in kinds.items() if some}
    fewest = min(len(some) for some in kinds.values())
    late = [s for s in scores if s.hidden_at is not None and not _in_time(s)]
    bars = {
        "clips_per_kind": _bar(fewest, CLIPS_PER_KIND, fewest >= CLIPS_PER_KIND),
        "frames_per_s": _bar(overall["frames_per_s"], FRAMES_PER_S, overall["frames_per_s"] >= FRAMES_PER_S),
        "cpu_s_per_s": _most(overall["cpu_s_per_s"], CPU_SHARE),
        "median_error_px": _most(overall["median_error_px"], MEDIAN_ERROR_PX),
        "occlusions_noticed_late": _bar(len(late), 0, not late),
        "wrong_share": _most(overall["wrong_share"], WRONG_SHARE),
        "wrong_or_far_share": _most(overall["wrong_or_far_share"], WRONG_SHARE),
    }
    return {"overall": overall, "by_kind": by_kind, "bars": bars}


def _figures(scores: Sequence[ClipScore], fps: float) -> dict[str, Any]:
    cpu_ms = np.concatenate([score.cpu_ms for score in scores])
    wall_ms = np.concatenate([score.wall_ms for score in scores])
    hidden = [score for score in scores if score.hidden_at is not None]
    wrong = sum(score.wrong_at is not None for score in scores)
    far = sum(score.far_at is not None and score.wrong_at is None for score in scores)
    metres = [score.position_error_m for score in scores if score.position_error_m is not None]
    return {
        "clips": len(scores),
        "median_error_px": _median([error for score in scores for error in score.errors_px]),
        "worst_clip_median_px": max((_median(s.errors_px) or 0.0 for s in scores), default=None),
        "last_frame_error_px": _median([score.errors_px[-1] for score in scores if score.errors_px]),
        "position_error_m": round(float(np.median(metres)), 4) if metres else None,
        "kept": round(float(np.mean([score.kept for score in scores])), 3),
        "occlusions": len(hidden),
        "noticed_in_time": sum(_in_time(score) for score in hidden),
        "wrong_clips": wrong,
        "far_clips": far,
        "wrong_share": round(wrong / len(scores), 4),
        "wrong_or_far_share": round((wrong + far) / len(scores), 4),
        "cpu_ms": {"p50": _rounded(np.median(cpu_ms)), "p95": _rounded(np.percentile(cpu_ms, 95))},
        "frames_per_s": _rounded(1000.0 / max(float(np.mean(cpu_ms)), 1e-6)),
        "frames_per_s_wall": _rounded(1000.0 / max(float(np.mean(wall_ms)), 1e-6)),
        "cpu_s_per_s": round(float(np.mean(cpu_ms)) / 1000.0 * fps, 4),
    }


def _error_px(clip: TrackingClip, targets: Sequence[Target], index: int) -> float:
    px = targets[index].px
    assert px is not None
    return float(np.hypot(*np.subtract(px, clip.frames[index].px)))


def _position_error(clip: TrackingClip, targets: Sequence[Target], seen: Sequence[int]) -> float | None:
    errors = [
        float(np.linalg.norm(np.subtract(position, clip.frames[i].camera_m)))
        for i in seen
        if (position := targets[i].camera_m) is not None
    ]
    return float(np.median(errors)) if errors else None


def _fault(clip: TrackingClip, target: Target, index: int) -> Literal["wrong", "far"] | None:
    """Whether "tracking" is said on another thing or far from the point, but for the time it takes to notice."""
    if target.px is None:
        return None
    since = next((k for k in range(index + 1) if clip.frames[index - k].visible), index + 1)
    if 0 < since <= GRACE_FRAMES:
        return None
    u, v = target.px
    near = clip.mask(index)[max(v - NEAR_PX, 0) : v + NEAR_PX + 1, max(u - NEAR_PX, 0) : u + NEAR_PX + 1]
    away = float(np.hypot(*np.subtract(target.px, clip.frames[index].px)))
    if not bool((near == clip.label).any()) or (clip.is_place and away > FAR_PX):
        return "wrong"
    return "far" if away > FAR_PX else None


def _in_time(score: ClipScore) -> bool:
    return score.noticed_after is not None and score.noticed_after <= OCCLUSION_FRAMES


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 2) if len(values) else None


def _rounded(value: Any) -> float:
    return round(float(value), 2)


def _bar(measured: float | None, limit: float, ok: bool) -> dict[str, Any]:
    return {"measured": measured, "limit": limit, "ok": ok}


def _most(measured: float | None, limit: float) -> dict[str, Any]:
    return _bar(measured, limit, measured is not None and measured <= limit)
