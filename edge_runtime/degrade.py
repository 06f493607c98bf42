"""When a robot has to do with less, and when it may have all again: readings in, modes and reasons out.

Pure: no clock, no sensor, no loop. A mode begins at once when its reading is bad and ends when the reading has been
good, by a wider limit, for a while: a board at the edge does not flicker between two ways of working. What a board does
not tell is never bad.
"""

from dataclasses import dataclass
from typing import Final, Literal

from hardware.vitals import Vitals

Mode = Literal["hot", "very_hot", "low_memory", "camera_lost"]
# A camera that stutters is told of once, not with every frame.
CAMERA_CALM_S: Final = 2.0
MODES: Final[tuple[Mode, ...]] = ("hot", "very_hot", "low_memory", "camera_lost")


@dataclass(frozen=True)
class DegradeSettings:
    """When to do with less, and with how much.

    Raises:
        ValueError: a mode would end where it begins.
    """

    # Hot: nearer than this to the temperature at which the board holds clocks back; over when it is this far away.
    hot_margin_c: float = 5.0
    cool_margin_c: float = 12.0
    # The same for a board that does not tell that temperature.
    hot_c: float = 85.0
    cool_c: float = 75.0
    # Too near to throttling for so long in spite of doing less: very hot.
    very_hot_after_s: float = 60.0
    # Memory that everything together could still have.
    low_memory_mib: float = 300.0
    enough_memory_mib: float = 600.0
    # A good reading has to last so long.
    calm_s: float = 20.0
    # A camera without a frame for so long is lost.
    silent_ms: float = 1000.0
    # When hot: tile budget, shortest time between questions, and every so manieth frame; twice as strict when very hot.
    hot_max_tiles: int = 4
    hot_pause_ms: float = 2000.0
    hot_every: int = 2
    # When short of memory: tile budget.
    low_memory_max_tiles: int = 1

    def __post_init__(self) -> None:
        """Refuse what would flicker."""
        for low, high in (
            ("hot_margin_c", "cool_margin_c"),
            ("cool_c", "hot_c"),
            ("low_memory_mib", "enough_memory_mib"),
        ):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low):g} has to be below {high} {getattr(self, high):g}")
        for name in ("hot_max_tiles", "hot_every", "low_memory_max_tiles"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class CameraSigns:
    """How the camera is, as far as it matters here."""

    delivers: bool  # its process says so, or there is none to ask
    frame_age_ms: float | None  # of the newest frame; None: there was none yet
    reason: str = ""  # of its last failure


@dataclass(frozen=True)
class Condition:
    """What holds now."""

    modes: tuple[Mode, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """For a status line; empty: nothing."""
        return ", ".join(self.reasons)


@dataclass(frozen=True)
class Work:
    """How much is left to do."""

    max_tiles: int | None = None  # None: as configured
    pause_ms: float = 0.0
    every: int = 1


class Latch:
    """On at once, off after `calm_s` of good readings; in between it stays as it is.

    Args:
        calm_s: How long good readings must last.
    """

    def __init__(self, calm_s: float) -> None:
        self._calm_s = calm_s
        self._is_on = False
        self._good_since_s: float | None = None
        self._bad_since_s: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether the mode holds."""
        return self._is_on

    def bad_for_s(self, now_s: float) -> float:
        """How long the readings have been bad without a break."""
        return 0.0 if self._bad_since_s is None else now_s - self._bad_since_s

    def update(self, now_s: float, *, bad: bool, good: bool) -> bool:
        """One more reading; whether it is on."""
        self._bad_since_s = (now_s if self._bad_since_s is None else self._bad_since_s) if bad else None
        self._good_since_s = (now_s if self._good_since_s is None else self._good_since_s) if good else None
        if bad:
            self._is_on = True
        elif self._good_since_s is not None and now_s - self._good_since_s >= self._calm_s:
            self._is_on = False
        return self._is_on


class DegradePolicy:
    """Remembers what is needed for hysteresis.

    Args:
        settings: See there.
        max_tiles: The configured tile budget, which no mode raises; None: the bundle's own.
    """

    def __init__(self, settings: DegradeSettings, *, max_tiles: int | None = None) -> None:
        self._settings = settings
        self._max_tiles = max_tiles
        self._heat, self._great_heat, self._memory = (Latch(settings.calm_s) for _ in range(3))
        self._camera = Latch(min(CAMERA_CALM_S, settings.calm_s))

    def update(self, now_s: float, vitals: Vitals, camera: CameraSigns) -> Condition:
        """What holds now.

        Args:
            now_s: Monotonic; never goes back.
            vitals: Of the board.
            camera: Of the camera.
        """
        found: list[tuple[Mode, str]] = [
            *self._hot(now_s, vitals),
            *self._short_of_memory(now_s, vitals),
            *self._without_camera(now_s, camera),
        ]
        return Condition(tuple(mode for mode, _ in found), tuple(reason for _, reason in found))

    def work(self, condition: Condition) -> Work:
        """How much is left to do under a condition: of several modes the strictest counts."""
        settings, modes = self._settings, condition.modes
        budgets = [] if self._max_tiles is None else [self._max_tiles]
        pause_ms, every = 0.0, 1
        if "low_memory" in modes:
            budgets.append(settings.low_memory_max_tiles)
        if "hot" in modes or "very_hot" in modes:
            times = 2 if "very_hot" in modes else 1
            budgets.append(max(settings.hot_max_tiles // times, 1))
            pause_ms, every = settings.hot_pause_ms * times, settings.hot_every * times
        reduced = bool({"low_memory", "hot", "very_hot"} & set(modes))
        return Work(min(budgets), pause_ms, every) if reduced else Work()

    def _hot(self, now_s: float, vitals: Vitals) -> list[tuple[Mode, str]]:
        settings, told = self._settings, vitals.reading
        if vitals.margin_c is not None:
            bad, good = vitals.margin_c < settings.hot_margin_c, vitals.margin_c > settings.cool_margin_c
            how = f"{vitals.margin_c:.0f} °C below throttling"
        elif told.temp_c is not None:
            bad, good = told.temp_c > settings.hot_c, told.temp_c < settings.cool_c
            how = f"{told.temp_c:.0f} °C"
        else:
            bad, good, how = False, True, "clocks held back"
        throttled = bool(told.throttled)
        bad, good = bad or throttled, good and not throttled
        is_hot = self._heat.update(now_s, bad=bad, good=good)
        # Doing less has not helped; at a temperature between the limits it has, and is what was wanted.
        in_spite = self._heat.bad_for_s(now_s) >= settings.very_hot_after_s
        is_very_hot = self._great_heat.update(now_s, bad=bad and in_spite, good=good)
        if not is_hot:
            return []
        mode: Mode = "very_hot" if is_very_hot else "hot"
        return [(mode, f"{mode.replace('_', ' ')} ({how}{', throttled' if throttled else ''})")]

    def _short_of_memory(self, now_s: float, vitals: Vitals) -> list[tuple[Mode, str]]:
        left_mib = vitals.mem_available_mib
        bad = left_mib is not None and left_mib < self._settings.low_memory_mib
        good = left_mib is None or left_mib > self._settings.enough_memory_mib
        if not self._memory.update(now_s, bad=bad, good=good):
            return []
        return [("low_memory", f"low memory ({left_mib:.0f} MiB left)" if left_mib is not None else "low memory")]

    def _without_camera(self, now_s: float, camera: CameraSigns) -> list[tuple[Mode, str]]:
        if camera.frame_age_ms is None:
            return []  # it has not begun; whoever opens it waits and tells
        well = camera.delivers and camera.frame_age_ms <= self._settings.silent_ms
        if not self._camera.update(now_s, bad=not well, good=well):
            return []
        if well:
            return [("camera_lost", "frames come again, for less than 2 s")]
        why = f": {camera.reason}" if camera.reason and not camera.delivers else ""
        return [("camera_lost", f"no frame for {camera.frame_age_ms / 1000:.0f} s{why}")]
