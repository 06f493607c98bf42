"""What a sink is, and what the records that it gets show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.errors import StorageError
from hardware.frame import Frame
from hardware.storage import free_mib

# Kept free by recordings: the robot needs its disk for other things, and an index has to fit in the end.
KEEP_FREE_MIB = 200.0


class Sink(Protocol):
    """Takes one record after another; records are JSON objects with a `kind`."""

    def write(self, record: dict[str, Any]) -> None:
        """Publish one record."""

    def close(self) -> None:
        """Flush and release whatever is held."""


class FrameSink(Protocol):
    """A sink that also wants the camera frame a record is about."""

    def write_with(self, record: dict[str, Any], frame: Frame | None) -> None:
        """Publish one record with its frame; None: the frame is not at hand any more."""

    def close(self) -> None:
        """Flush and release whatever is held."""


@dataclass(frozen=True)
class ShownPoint:
    """A point of a record, as viewers draw it."""

    px: tuple[int, int]
    camera_m: tuple[float, float, float] | None
    base_m: tuple[float, float, float] | None
    confidence: float


def insist_on_room(path: Path, keep_free_mib: float = KEEP_FREE_MIB) -> None:
    """Stop a recording before its disk is full.

    Raises:
        StorageError: Less than `keep_free_mib` are free where `path` is.
    """
    if free_mib(path) < keep_free_mib:
        raise StorageError(f"{path} pauses: less than {keep_free_mib:.0f} MiB are free there")


def shown_points(record: dict[str, Any]) -> list[ShownPoint]:
    """The points of an answer, or the one of a target that is being tracked; none of anything else."""
    if record["kind"] == "answer":
        found = record["points"]
    else:
        found = [record] if record["kind"] == "target" and record["px"] is not None else []
    return [
        ShownPoint(
            (point["px"][0], point["px"][1]), _xyz(point["camera_m"]), _xyz(point["base_m"]), point["confidence"]
        )
        for point in found
    ]


def shown_text(record: dict[str, Any]) -> str:
    """One line for a person."""
    if record["kind"] == "target":
        return f"target {record['state']}, confidence {record['confidence']:.2f}"
    asked = f"{record['instruction']}: " if "instruction" in record else ""
    return f"{asked}{record['answer'] if record['valid'] else record['reason']}"


def _xyz(values: list[float] | None) -> tuple[float, float, float] | None:
    return None if values is None else (values[0], values[1], values[2])
