"""What can be wrong with training data (root of the tree: hardware/errors.py)."""

from edge_runtime.errors import DataError


class ArchiveInvalid(DataError):
    """An archive is damaged, incomplete, or holds what must not be put on a disk."""


class DatasetInvalid(DataError):
    """A training file or a folder of pictures is absent, or no such thing."""


class SampleMalformed(DataError):
    """One sample cannot be trained on; it is skipped, counted and listed.

    Args:
        fault: One of `refspatial.FAULTS`, by which samples are counted.
        detail: What exactly is wrong.
    """

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.fault}: {self.detail}"
