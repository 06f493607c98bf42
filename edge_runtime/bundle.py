"""A bundle is a folder of data, complete or absent; this module both writes and reads it.

Complete means: `manifest.json`, which is written last, names every file with its size and SHA-256. Reading checks
version, names, sizes, hashes and shapes before any native code sees a file. Hashing gigabytes takes seconds, so the
first full check leaves a stamp in the user's cache and later opens compare sizes, inodes and modification times.
"""

import dataclasses
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import edge_runtime
from edge_runtime import bundle_shapes
from edge_runtime.bundle_shapes import ESTIMATOR, ESTIMATOR_GOLDEN, ESTIMATOR_STAGE, PREFILL, PREFILL_ROWS
from edge_runtime.cache import recall, remember
from edge_runtime.errors import (
    BundleInvalid,
    BundleMissing,
    BundleTampered,
    ConfigError,
)
from edge_runtime.manifest import FileEntry, Manifest, read_manifest
from hardware.storage import check_target, replace_folder, storage_errors

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
DECODER = "decoder.gguf"
RUN_LOG = "quantize_log.json"  # how long a run took differs each time, so the manifest does not name it
SYSTEM_BUNDLE = Path("/var/lib/roborefer-edge/bundle")

_CHUNK = 1 << 20
_STALE_S = 24 * 3600.0  # a staging folder nobody wrote into for so long belongs to a writer that was killed


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose files are known to be the ones the manifest names."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of a file of the bundle.

        Raises:
            BundleInvalid: The manifest does not name it.
        """
        if name not in self.manifest.files:
            raise BundleInvalid(f"{self.path} has no {name}; it holds {sorted(self.manifest.files)}")
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether the bundle holds a file of that name."""
        return name in self.manifest.files

    @property
    def bytes(self) -> int:
        """Total size of its files."""
        return sum(entry.bytes for entry in self.manifest.files.values())


# --- finding ------------------------------------------------------------------------------------------


def default_bundle(configured: Path | None = None) -> Path:
    """The bundle to use when no flag names one: the environment's, the config's, the machine's, else the shipped one.

    Args:
        configured: What the config file says.
    """
    if named := os.environ.get("ROBOREFER_BUNDLE"):
        return Path(named)
    if configured is not None:
        return configured
    if (SYSTEM_BUNDLE / MANIFEST).is_file():
        return SYSTEM_BUNDLE
    return shipped_bundle()


def shipped_bundle() -> Path:
    """The bundle inside the wheel, or in the source tree when running from a checkout."""
    package = Path(edge_runtime.__file__).parent
    in_wheel = package / "default_bundle"
    return in_wheel if in_wheel.is_dir() else package.parent / "models" / "nano" / "bundle"


# --- reading ------------------------------------------------------------------------------------------


def open_bundle(path: Path, *, full_hash: bool = False) -> Bundle:
    """Open a bundle after checking it.

    Args:
        path: The bundle folder.
        full_hash: Hash every file even when a stamp says it was done before.

    Raises:
        BundleMissing: No folder or no manifest there.
        BundleVersion: Written for another schema.
        BundleTampered: A file is absent, or its size or hash differs from the manifest.
        BundleInvalid: The manifest or a file's shapes do not fit.
    """
    raw = _manifest_bytes(path)
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleInvalid(f"{path / MANIFEST} is not JSON ({error}); export or copy the bundle again") from error
    manifest = read_manifest(data)
    with _reading(path):
        _check_sizes(path, manifest)
        _check_hashes(path, manifest, hashlib.sha256(raw).hexdigest(), full_hash=full_hash)
        bundle_shapes.check(path, manifest)
    return Bundle(path=path, manifest=manifest)


def manifest_sha256(path: Path) -> str:
    """Identity of a bundle: the hash of its manifest, which holds the hashes of its files."""
    return hashlib.sha256(_manifest_bytes(path)).hexdigest()


def _manifest_bytes(path: Path) -> bytes:
    with _reading(path):
        if not path.is_dir():
            raise BundleMissing(f"no bundle at {path}: there is no such folder. Name one with --bundle.")
        if not (path / MANIFEST).exists():
            raise BundleMissing(
                f"no bundle at {path}: {MANIFEST} is missing, so it is incomplete or something else. "
                "Make one with `roborefer-edge export CHECKPOINT OUT`."
            )
        if not (path / MANIFEST).is_file():
            raise BundleInvalid(f"{path / MANIFEST} is no plain file; export or copy the bundle again")
        return (path / MANIFEST).read_bytes()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say what the file system refuses while a bundle is read."""
    try:
        yield
    except OSError as error:
        raise BundleInvalid(f"the bundle {path} cannot be read: {error}") from error


def _check_sizes(path: Path, manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        if not is_plain_name(name):
            raise BundleInvalid(f"manifest names {name!r}: only plain file names inside the bundle are allowed")
        file = path / name
        if not file.is_file():
            raise BundleTampered(f"{file} is missing; copy or export the bundle again")
        if (size := file.stat().st_size) != entry.bytes:
            raise BundleTampered(f"{file} has {size} bytes, the manifest says {entry.bytes}: truncated or changed")


def is_plain_name(name: str) -> bool:
    """Whether a name stays inside the folder it is looked up in."""
    return name not in ("", ".", "..") and Path(name).name == name and "\\" not in name and "\0" not in name


def _check_hashes(path: Path, manifest: Manifest, manifest_hash: str, *, full_hash: bool) -> None:
    stamp_name = f"verified-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    stamp = {"manifest": manifest_hash, "files": _stamps(path, manifest)}
    if not full_hash and recall(stamp_name) == stamp:
        return
    for name, entry in manifest.files.items():
        if (found := file_sha256(path / name)) != entry.sha256:
            raise BundleTampered(
                f"{path / name} was changed: its SHA-256 is {found[:12]}..., the manifest says {entry.sha256[:12]}..."
            )
    remember(stamp_name, stamp)


def _stamps(path: Path, manifest: Manifest) -> dict[str, list[int]]:
    stats = {name: (path / name).stat() for name in manifest.files}
    return {name: [s.st_ino, s.st_size, s.st_mtime_ns] for name, s in stats.items()}


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# --- writing ------------------------------------------------------------------------------------------


class BundleWriter:
    """Stage a bundle beside its destination and put it there in one move.

    Example:
        with BundleWriter(out) as writer:
            write_things_into(writer.path)
            bundle = writer.finish(manifest)

    Leaving the block without `finish`, by an error or otherwise, removes the staging folder and leaves whatever was
    at the destination untouched.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._staging: Path | None = None

    def __enter__(self) -> "BundleWriter":
        """Create the staging folder.

        Raises:
            ConfigError: The destination exists and is not a bundle.
            StorageError: The folder cannot be created, or none can be put there.
        """
        _refuse_to_replace_other_things(self._out)
        with storage_errors(self._out):
            self._out.parent.mkdir(parents=True, exist_ok=True)
            staged = tempfile.mkdtemp(dir=self._out.parent, prefix=self._prefix)
            self._staging = Path(staged)
            self._remove_stale_neighbours(self._staging)
        return self

    @property
    def _prefix(self) -> str:
        return f".{self._out.name}.partial-"

    def _remove_stale_neighbours(self, ours: Path) -> None:
        """Remove what killed writers left; ages are by the file system's own clock, against our new folder."""
        now_s = ours.stat().st_mtime
        for folder in self._out.parent.glob(f"{glob.escape(self._prefix)}*"):
            if folder.is_dir() and now_s - _last_change_s(folder) > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def path(self) -> Path:
        """The staging folder; write the bundle's files here."""
        assert self._staging is not None, "use BundleWriter in a with block, before finish()"
        return self._staging

    def finish(self, manifest: Manifest) -> Bundle:
        """Hash the staged files, write the manifest last and move the bundle into place.

        Args:
            manifest: The manifest; its `files` are filled in here.

        Raises:
            BundleInvalid: A staged file does not fit the manifest.
            StorageError: Disk full or not writable.
        """
        with storage_errors(self._out):
            complete = dataclasses.replace(manifest, files=self._entries())
            bundle_shapes.check(self.path, complete)  # before the old bundle goes
            _write_durably(self.path / MANIFEST, json.dumps(complete.to_json(), indent=1, sort_keys=True) + "\n")
            self.path.chmod(0o755)  # mkdtemp made it private; a service reads it as another user
            replace_folder(self.path, self._out)
        self._staging = None
        return open_bundle(self._out)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the staging folder if it was not moved into place."""
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None

    def _entries(self) -> Mapping[str, FileEntry]:
        files = sorted(p for p in self.path.iterdir() if p.name not in (MANIFEST, RUN_LOG))
        return {p.name: FileEntry(sha256=file_sha256(p), bytes=p.stat().st_size) for p in files}


def _last_change_s(folder: Path) -> float:
    """When a folder or a file in it was last changed."""
    return max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))


def _refuse_to_replace_other_things(out: Path) -> None:
    check_target(out)
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ConfigError(f"{out} exists and is not a bundle; choose a new or empty folder")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; choose a folder for the bundle")


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


__all__ = [
    "ESTIMATOR",
    "ESTIMATOR_GOLDEN",
    "ESTIMATOR_STAGE",
    "PREFILL",
    "PREFILL_ROWS",
    "Bundle",
    "BundleWriter",
    "default_bundle",
    "file_sha256",
    "manifest_sha256",
    "open_bundle",
    "shipped_bundle",
]
