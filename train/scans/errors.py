"""What can be wrong with scans (root of the tree: hardware/errors.py)."""

from edge_runtime.errors import DataError


class ScanInvalid(DataError):
    """A folder or an archive is no scan, or all of a scan is unusable."""


class FrameFaulty(DataError):
    """One frame cannot be used; it is skipped and counted.

    Args:
        fault: One of `records.FRAME_FAULTS`, by which frames are counted.
        detail: What exactly is wrong.
    """

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.fault}: {self.detail}"
