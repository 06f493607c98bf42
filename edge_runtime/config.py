"""What `run --config FILE` reads: a TOML file as one frozen record, and what a changed file changes.

A file is taken whole or not at all, so a service that reads it again (SIGHUP) keeps its old settings when the new ones
are wrong. Where a flag and the file both speak, the flag wins; that is decided in `app`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from edge_runtime.config_table import read_record
from edge_runtime.degrade import DegradeSettings
from edge_runtime.errors import ConfigError
from edge_runtime.publish.named import is_file
from edge_runtime.track import TrackSettings
from edge_runtime.track_asking import AskSettings
from edge_runtime.worker import WorkerLimits
from hardware.camera.recovery import RecoveryPolicy
from hardware.camera.settings import CameraSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What a changed key needs: nothing, a new inference worker (the target is followed meanwhile), or a restart.
Takes = Literal["now", "worker", "restart"]
_TAKES: Final = "takes"
_NOW: Final = {_TAKES: "now"}
_WORKER: Final = {_TAKES: "worker"}
_RESTART: Final = {_TAKES: "restart"}


@dataclass(frozen=True)
class ModelConfig:
    """Which bundle answers, and how.

    Raises:
        ValueError: a number below 1.
    """

    # After --bundle and $ROBOREFER_BUNDLE, before the machine's and the shipped one.
    bundle: Path | None = None
    # Tile budget per picture: fewer are faster and see less detail. None: the bundle's own.
    max_tiles: int | None = None
    # Of each native library. None: as many as help.
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse counts of nothing."""
        _at_least_1(max_tiles=self.max_tiles, threads=self.threads)


@dataclass(frozen=True)
class CameraConfig:
    """Where frames come from.

    Raises:
        ValueError: a number below 1.
    """

    # As for `--camera`: realsense[:SERIAL], software[:FOLDER], a recording.
    source: str = "realsense"
    # A camera silent for so long is an error.
    frame_timeout_ms: int = 5000
    # JSON file of `roborefer-edge calibrate`: points come in the robot's frame as well.
    base_from_camera: Path | None = None
    # Mode, sensor options, depth filters; a recording takes the filters alone.
    settings: CameraSettings = field(default_factory=CameraSettings)
    # What is done when it fails, and how often.
    recovery: RecoveryPolicy = field(default_factory=RecoveryPolicy)

    def __post_init__(self) -> None:
        """Refuse a wait that nothing can meet."""
        _at_least_1(frame_timeout_ms=self.frame_timeout_ms)


@dataclass(frozen=True)
class RunConfig:
    """Everything `run` can be told; each default is that of the command line.

    Raises:
        ValueError: a time, a count or a budget of nothing.
    """

    # Asked in turn; more than one takes turns.
    instructions: tuple[str, ...] = field(default=(), metadata=_NOW)
    # Send them unchanged, without asking for coordinates.
    raw_prompt: bool = field(default=False, metadata=_NOW)
    # As for `--sink`.
    sinks: tuple[str, ...] = field(default=(), metadata=_RESTART)
    # Where file sinks with a relative path write. None: the folder the program was started in.
    log_dir: Path | None = field(default=None, metadata=_RESTART)
    # File that gets the run's numbers for Prometheus (node exporter, textfile collector). None: there is none.
    metrics: Path | None = field(default=None, metadata=_RESTART)
    model: ModelConfig = field(default_factory=ModelConfig, metadata=_WORKER)
    camera: CameraConfig = field(default_factory=CameraConfig, metadata=_RESTART)
    worker: WorkerLimits = field(default_factory=WorkerLimits, metadata=_WORKER)
    ask: AskSettings = field(default_factory=AskSettings, metadata=_NOW)
    track: TrackSettings = field(default_factory=TrackSettings, metadata=_RESTART)
    degrade: DegradeSettings = field(default_factory=DegradeSettings, metadata=_RESTART)

    def __post_init__(self) -> None:
        """Refuse limits that nothing can keep."""
        _above_zero("worker", self.worker)
        _above_zero("track", self.track, unless=("least_confidence",))
        _above_zero("degrade", self.degrade, unless=("calm_s", "hot_pause_ms", "very_hot_after_s"))
        _above_zero("camera.recovery", self.camera.recovery, unless=("reopenings", "usb_resets"))

    def placed_sinks(self) -> tuple[str, ...]:
        """The sinks, those that write files with their full path."""
        return tuple(self._placed(spec) for spec in self.sinks)

    def _placed(self, spec: str) -> str:
        kind, _, where = spec.partition(":")
        return f"{kind}:{self.log_dir / where}" if self.log_dir is not None and is_file(spec) else spec


@dataclass(frozen=True)
class Change:
    """A key that says something else than before."""

    key: str  # such as "camera.source"
    old: object
    new: object
    takes: Takes

    def __str__(self) -> str:
        """One line for the log."""
        return f"{self.key}: {_said(self.old)} -> {_said(self.new)} ({self.takes})"


def read_config(path: Path) -> RunConfig:
    """Read a config file.

    Args:
        path: TOML. Relative paths of `model.bundle`, `camera.base_from_camera` and `log_dir` begin at its folder.

    Raises:
        ConfigError: It cannot be read, is not TOML, or says something wrong; the message has a line for every wrong
            key. Nothing of it is in effect.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror or error}") from error
    return config_of(content, path)


def config_of(content: bytes, path: Path) -> RunConfig:
    """What a config file of that content, at that place, says.

    Raises:
        ConfigError: As for `read_config`.
    """
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"the config {path} is not TOML: {error}") from error
    config, problems = read_record(RunConfig, table, folder=path.absolute().parent)
    if config is None:
        raise ConfigError("\n  ".join([f"the config {path} cannot be used:", *problems]))
    return config


def differences(old: RunConfig, new: RunConfig) -> tuple[Change, ...]:
    """Every key that says something else, in the order of the record, each with what it takes to put it into effect."""
    return tuple(
        Change(key, before, after, cast(Takes, part.metadata[_TAKES]))
        for part in fields(RunConfig)
        for key, before, after in _unlike(part.name, getattr(old, part.name), getattr(new, part.name))
    )


def _unlike(key: str, old: Any, new: Any) -> Iterator[tuple[str, object, object]]:
    if is_dataclass(old) and type(old) is type(new):
        for part in fields(old):
            yield from _unlike(f"{key}.{part.name}", getattr(old, part.name), getattr(new, part.name))
    elif old != new:
        yield key, old, new


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_said, value))}]"
    return "off" if value is None else repr(str(value)) if isinstance(value, str | Path) else str(value)


def _at_least_1(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is at least 1, got {count}")


def _above_zero(at: str, record: Any, *, unless: tuple[str, ...] = ()) -> None:
    """Of every number in a record; those in `unless` may be zero."""
    for part in fields(record):
        value = getattr(record, part.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers:
            raise ValueError(f"{at}.{part.name} is an empty list")
        lowest = min(numbers)
        if lowest < 0 or (lowest == 0 and part.name not in unless):
            raise ValueError(f"{at}.{part.name} must be above zero, got {lowest}")
