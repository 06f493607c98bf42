"""One target from the frame of its answer onwards, one frame at a time: where it is, or why that is not known.

Corners around the answer are followed by optical flow; a rigid motion is fitted to them; the answer moves with it.
Whether what is then seen at the target's place is still the target is asked of depth and colour. Nothing here guesses
where a target is that was lost: that is for the next answer.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.records import F32, F64
from edge_runtime.track_flow import corners, follow, sharpness
from edge_runtime.track_pose import fit_pose, rotation_of
from edge_runtime.track_support import find_support, near_depth_m
from edge_runtime.track_view import PATCH_PX, TrackView

Bools = npt.NDArray[np.bool_]

MIN_POINTS = 4
# Below so many points new corners are looked for, at most once in so many frames: looking costs as much as five frames.
FEW_POINTS, FEW_EVERY = 24, 20
SCARCE_POINTS, SCARCE_EVERY = 10, 5
AGREE_PX = 2.5  # a point farther from the fit moves otherwise
AGREE_SHARE = 0.35  # of the points, by weight, have to agree
FAR_WEIGHT = 0.04  # of a point far from the target; the nearest count 1
# Points around a thing count little, but while it stands still they know how the camera turned, which a round or plain
# thing does not show. Once most of them disagree the thing moves, and they are done with.
AROUND_SHARE, AROUND_POINTS, FEW_AROUND = 0.15, 16, 6  # of the weight of the thing's own points, all together
MOVES_SHARE = 0.4
SHARPNESS_EVERY = 4  # frames; what flow sees of a point changes slowly
AROUND_CELLS, PLACE_CELLS = 4, 4  # corners are taken evenly from so many times so many parts
TURN_KEPT = 0.7  # of one frame's turn is expected in the next; all of its shift
COVER_M, COVER_SHARE = 0.02, 0.025  # nearer than expected by so much: something is in front
BEHIND_M, BEHIND_SHARE = 0.05, 0.06  # farther than expected by so much: the target is gone
COVERED_PART = 0.5  # of the readings at the target
COLOUR_STEP = 28.0  # RGB levels (norm) within which two pixels show the same
SAME_SHARE, SURE_SHARE = 0.3, 0.6  # of the target's patch: less is something else, more is remembered
RIM_WEIGHT = 0.3  # of a point on an outline
TARGET_DEPTH_WEIGHT, POINT_DEPTH_WEIGHT = 4.0, 0.15  # readings at the target; at a corner, mostly on an outline
STRIKES = 3  # doubtful frames in a row until the target is lost


@dataclass(frozen=True, eq=False)
class Sighting:
    """Where the target is in one frame."""

    px: F64 | None  # [2] sub-pixel; None: lost
    camera_m: F64 | None  # [3]; None: lost, or no depth
    quality: float  # 0..1, how well points and looks agree
    reason: str | None  # why it is lost or doubtful


@dataclass(frozen=True, eq=False)
class _Points:
    """What is followed."""

    px: F32  # [N, 2] in the last frame
    seed_m: F64  # [N, 3] in the seed's camera frame
    weights: F64  # [N]
    sharpness: F64  # [N, 2, 2] what flow sees of each
    own: Bools  # [N] of the target, not of what is around it

    def only(self, which: Bools) -> "_Points":
        return _Points(self.px[which], self.seed_m[which], self.weights[which], self.sharpness[which], self.own[which])

    def joined(self, others: "_Points") -> "_Points":
        return _Points(
            np.concatenate([self.px, others.px]).astype(np.float32),
            np.concatenate([self.seed_m, others.seed_m]),
            np.concatenate([self.weights, others.weights]),
            np.concatenate([self.sharpness, others.sharpness]),
            np.concatenate([self.own, others.own]),
        )


class Follower:
    """Follows one answer.

    Args:
        view: the frame the answer is about.
        point_px: [2] the answer.
        place: whether it is a free place, to be held where the camera's pose is known; None: found out from depth, and
            not held.
    """

    def __init__(self, view: TrackView, point_px: F64, *, place: bool | None = None) -> None:
        support = find_support(view, point_px, place=place)
        self.is_place, self._place = support.is_place, place
        self._hold = bool(place)  # only where the caller knows: a flat thing looks like a place, and may be moved
        self.has_depth = support.target_m is not None
        self._uses_around = self.has_depth and not self.is_place
        self._radius_px = support.radius_px
        self._seed_px = np.asarray(point_px, np.float64)
        self._seed_base = view.base_from_camera
        self.target_m = self._lifted(view, self._seed_px[None], np.array([support.target_m or 1.0]))[0]
        self._pose, self._velocity = np.eye(4), np.eye(4)
        self._points = _Points(
            np.zeros((0, 2), np.float32), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 2, 2)), np.zeros(0, bool)
        )
        self._colours = self._recent = view.patch_at(self._seed_px)
        self._seen_share = self._agreeing(view, self._seed_px, float(self.target_m[2]))[2]
        self._strikes = self._since_renewal = self._steps = 0
        self._last = view  # in which the points were last seen
        self.lost: str | None = None
        self._renew(view, self._seed_px)
        if self.has_depth and not self.is_place and self.point_count < SCARCE_POINTS:
            self._rest_with_surroundings(view)

    @property
    def point_count(self) -> int:
        """Points followed now."""
        return int(np.count_nonzero(self._points.own))

    def step(self, view: TrackView) -> Sighting:
        """Follow into the next frame."""
        held = self._held_pose(view)
        doubt, share = (None, 1.0) if held is not None else self._move(view)
        if held is not None:
            self._pose = held
        now_m = self._pose[:3, :3] @ self.target_m + self._pose[:3, 3]
        px = view.pixels(now_m[None])[0]
        if not view.inside(px):
            return self._give_up("out of view")
        doubt = doubt or self._looks_wrong(view, px, float(now_m[2]))
        self._strikes = self._strikes + 1 if doubt else 0
        if doubt and self._strikes >= STRIKES and held is None:
            return self._give_up(doubt)
        if held is not None and self._strikes >= STRIKES:
            return Sighting(None, None, 0.0, doubt)
        if not doubt and held is None:
            self._since_renewal += 1
            if self._few():
                self._renew(view, px)
        quality = share * (0.5 if doubt else 1.0)
        return Sighting(px, self._measured(view, px, now_m) if self.has_depth else None, quality, doubt)

    # --- motion ---------------------------------------------------------------------------------------

    def _held_pose(self, view: TrackView) -> F64 | None:
        """Where the seed's camera frame is now, for a place whose robot knows where its camera is."""
        if not (self._hold and self.has_depth) or self._seed_base is None or view.base_from_camera is None:
            return None
        return np.linalg.inv(view.base_from_camera) @ self._seed_base

    def _move(self, view: TrackView) -> tuple[str | None, float]:
        """Move pose and points; returns a doubt, if any, and the share of points that agree."""
        start, points = self._velocity @ self._pose, self._points
        guess = view.pixels(points.seed_m @ start[:3, :3].T + start[:3, 3]).astype(np.float32)
        there, found = follow(self._last.grey, view.grey, points.px, self._sane(view, guess))
        expected = points.seed_m @ start[2, :3] + start[2, 3]
        found, depth = self._uncovered(view, there, found, expected)
        if np.count_nonzero(found & points.own) < MIN_POINTS:
            self._velocity = np.eye(4)
            return "too few points", 0.0
        return self._fit(view, start, there, found, depth)

    def _fit(self, view: TrackView, start: F64, there: F32, found: Bools, depth: F64) -> tuple[str | None, float]:
        points, seen = self._points, self._points.only(found)
        weights, count = seen.weights, len(seen.px)
        self._steps += 1
        sharp = sharpness(view.grey, there[found]) if self._steps % SHARPNESS_EVERY == 0 else seen.sharpness
        target_z_m = self._target_depth(view, start) if self.has_depth else np.nan
        fit = fit_pose(
            np.concatenate([seen.seed_m, self.target_m[None]]),
            np.concatenate([view.rays(there[found]), np.zeros((1, 2))]),
            np.append(depth[found], target_z_m),
            np.append(weights, 0.0),
            np.append(weights * POINT_DEPTH_WEIGHT, TARGET_DEPTH_WEIGHT),
            np.concatenate([sharp, np.eye(2)[None]]),
            start=start,
            pivot_m=self.target_m,
            focal_px=view.focal_px,
            has_depth=self.has_depth,
        )
        agree = fit.misses_px[:count] < AGREE_PX
        own = seen.own & agree
        share = float(weights[own].sum() / points.weights[points.own].sum())
        if np.count_nonzero(own) < MIN_POINTS or weights[own].sum() < AGREE_SHARE * weights[seen.own].sum():
            self._velocity = np.eye(4)
            return "points disagree", share
        self._velocity = self._expected_next(fit.camera_from_seed)
        self._pose = fit.camera_from_seed
        around = ~seen.own
        if np.count_nonzero(around & ~agree) > MOVES_SHARE * max(int(np.count_nonzero(around)), 5):
            self._uses_around = False
            agree = own
        self._points, self._last = replace(seen, px=there[found], sharpness=sharp).only(agree), view
        return None, share

    def _expected_next(self, pose: F64) -> F64:
        """The move of the next frame: the same shift of the target, and most of the same turn."""
        before, now = (p[:3, :3] @ self.target_m + p[:3, 3] for p in (self._pose, pose))
        turn, _ = cv2.Rodrigues(pose[:3, :3] @ self._pose[:3, :3].T)
        move = np.eye(4)
        move[:3, :3] = rotation_of(TURN_KEPT * turn.ravel())
        move[:3, 3] = 2 * now - before - move[:3, :3] @ now
        return move

    def _uncovered(self, view: TrackView, there: F32, found: Bools, expected_m: F64) -> tuple[Bools, F64]:
        """Without the points that something is in front of; and what depth says of the others, NaN = nothing."""
        depth = np.full(len(there), np.nan)
        if not self.has_depth or not found.any():
            return found, depth
        depth[found] = view.depth_at(there[found])
        with np.errstate(invalid="ignore"):
            covered = depth < expected_m - np.maximum(COVER_M, COVER_SHARE * expected_m)
            other = depth > expected_m + np.maximum(COVER_M, COVER_SHARE * expected_m)
        depth[other] = np.nan  # a corner on an outline may read what is behind
        return found & ~covered, depth

    def _target_depth(self, view: TrackView, start: F64) -> float:
        """Depth read where the target should be, NaN where that is something else or a hole."""
        expected = start[:3, :3] @ self.target_m + start[:3, 3]
        px = view.pixels(expected[None])[0]
        tolerance = max(COVER_M, COVER_SHARE * float(expected[2]))
        z_m = near_depth_m(view, px, float(expected[2]), tolerance) if view.inside(px) else None
        return float("nan") if z_m is None else z_m

    def _sane(self, view: TrackView, guess: F32) -> F32:
        """Guesses outside the picture would make the searched part huge."""
        return np.clip(guess, 0, np.array([view.lens.width - 1, view.lens.height - 1], np.float32))

    def _rest_with_surroundings(self, view: TrackView) -> None:
        """A thing without corners of its own is taken to stand still; if it does not, depth and colour will tell."""
        self._place, self._uses_around = True, False
        self._points = self._points.only(np.zeros(len(self._points.px), bool))
        self._renew(view, self._seed_px)

    def _few(self) -> bool:
        own, waited = self.point_count, self._since_renewal
        few = own < FEW_POINTS or (self._uses_around and len(self._points.px) - own < FEW_AROUND)
        return (few and waited >= FEW_EVERY) or (own < SCARCE_POINTS and waited >= SCARCE_EVERY)

    def _renew(self, view: TrackView, px: F64) -> None:
        """Look for corners on the target as it is now; old points stay, new ones keep away from them."""
        self._since_renewal = 0
        support = find_support(view, px, place=self._place)
        expected = self.is_place if self._place is None else support.is_place
        if self.has_depth and (support.target_m is None or support.is_place != expected):
            return
        taken = np.zeros(support.where.shape, bool)
        for u, v in np.round(self._points.px).astype(int) - np.array(support.corner_px):
            taken[max(v - 4, 0) : max(v + 5, 0), max(u - 4, 0) : max(u + 5, 0)] = True
        cells = PLACE_CELLS if support.is_place else 1
        near = corners(view.grey, support.where & ~taken, support.corner_px, cells=cells)
        away = np.hypot(*(near - px).T) / max(0.7 * self._radius_px, 20.0)
        weights = np.maximum(np.exp(-0.5 * away**2), FAR_WEIGHT) * np.where(support.on_rim(near), RIM_WEIGHT, 1.0)
        self._add(view, near, support.depths_of(near), weights, own=True)
        if self._uses_around:
            far = corners(view.grey, support.around & ~taken, support.corner_px, AROUND_POINTS, cells=AROUND_CELLS)
            far = far[~support.on_rim(far)]
            self._add(view, far, view.depth_at(far), np.full(len(far), np.nan), own=False)

    def _add(self, view: TrackView, px: F32, depths: F64, weights: F64, *, own: bool) -> None:
        if not self.has_depth:  # all points lie at one distance, wherever that is now
            depths = np.full(len(px), float(self._pose[2, :3] @ self.target_m + self._pose[2, 3]))
        known = np.isfinite(depths)
        back = np.linalg.inv(self._pose)
        seed_m = self._lifted(view, px[known], depths[known]) @ back[:3, :3].T + back[:3, 3]
        if not known.any():
            return
        new = _Points(px[known], seed_m, weights[known], sharpness(view.grey, px[known]), np.full(len(seed_m), own))
        joined = self._points.joined(new)
        around = AROUND_SHARE * joined.weights[joined.own].sum() / AROUND_POINTS
        self._points = replace(joined, weights=np.where(joined.own, joined.weights, around))

    @staticmethod
    def _lifted(view: TrackView, px: npt.NDArray[np.floating], depths: F64) -> F64:
        rays = view.rays(px)
        return np.concatenate([rays, np.ones((len(rays), 1))], axis=1) * depths[:, None]

    # --- is it still the target ---------------------------------------------------------------------------

    def _looks_wrong(self, view: TrackView, px: F64, expected_m: float) -> str | None:
        """A doubt, if what is seen at the target's place is not the target."""
        if self.has_depth:
            nearer, farther, _ = self._agreeing(view, px, expected_m)
            if nearer > COVERED_PART:
                return "covered"
            if farther > max(COVERED_PART, 1 - 0.4 * self._seen_share):
                return "gone"
        patch = view.patch_at(px)
        known = np.concatenate([self._colours, self._recent])
        nearest = np.linalg.norm(patch[:, None] - known[None], axis=2).min(axis=1)
        same = float(np.mean(nearest < COLOUR_STEP))
        if same < SAME_SHARE:
            return "looks different"
        if same > SURE_SHARE:
            self._recent = patch
        return None

    def _agreeing(self, view: TrackView, px: F64, expected_m: float) -> tuple[float, float, float]:
        """Shares of the depth readings at the target: nearer, farther, as expected. All 0 where depth says nothing."""
        depth_m = view.depth_m(view.around(px, PATCH_PX))
        valid = depth_m[np.isfinite(depth_m)]
        if valid.size < 8:
            return 0.0, 0.0, 0.0
        nearer = float(np.mean(valid < expected_m - max(COVER_M, COVER_SHARE * expected_m)))
        farther = float(np.mean(valid > expected_m + max(BEHIND_M, BEHIND_SHARE * expected_m)))
        return nearer, farther, 1 - nearer - farther

    @staticmethod
    def _measured(view: TrackView, px: F64, now_m: F64) -> F64:
        """The target in the camera frame: at the depth read there, or where the fit has it over a hole."""
        z_m = near_depth_m(view, px, float(now_m[2]), max(COVER_M, COVER_SHARE * float(now_m[2])))
        return now_m if z_m is None else now_m * (z_m / now_m[2])

    def _give_up(self, reason: str) -> Sighting:
        self.lost = reason
        return Sighting(None, None, 0.0, reason)
