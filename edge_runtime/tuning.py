"""How the native libraries are told to work on one machine: the record, and the small TOML file it is kept in.

`doctor --tune` writes the file beside the bundle, or in the user's cache where that folder is read-only; opening a
bundle reads it. A file made on another machine, for another bundle or for another build of a library is ignored with
a log line: what it says was not measured here.
"""

import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, get_args

from edge_runtime.bundle import Bundle, manifest_sha256
from edge_runtime.cache import cache_folder
from edge_runtime.decoder_sequence import KvType
from edge_runtime.errors import EdgeError
from edge_runtime.installed import llama_cpp_facts, onnxruntime_facts
from edge_runtime.providers import KNOWN
from hardware.errors import StorageError
from hardware.identity import machine_sha256
from hardware.probe import probe_board
from hardware.storage import storage_errors, whole_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION: Final = 1
MOST_THREADS: Final = 1024
MOST_ROWS: Final = 8192

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """Settings of the native libraries that change time and not meaning; None: what the part itself finds useful."""

    provider: str | None = None  # ONNX Runtime's name
    encoder_threads: int | None = None  # of one graph
    side_by_side: bool = True  # picture and depth are encoded at the same time
    decode_threads: int | None = None  # for an answer's tokens
    prefill_threads: int | None = None  # for a prompt
    ubatch: int | None = None  # rows of a prompt computed at once
    kv_type: KvType | None = None

    def words(self) -> str:
        """What is set, on one line."""
        said = {name: value for name, value in asdict(self).items() if value is not None and value is not True}
        return ", ".join(f"{name} {value}" for name, value in said.items()) or "defaults"

    def with_asked(self, *, n_threads: int | None, kv_type: KvType | None) -> "Tuning":
        """What was asked for explicitly wins; a number of threads holds for all."""
        changed = self
        if n_threads is not None:
            changed = replace(self, encoder_threads=n_threads, decode_threads=n_threads, prefill_threads=n_threads)
        return replace(changed, kv_type=kv_type) if kv_type is not None else changed


def tuned(bundle: Bundle) -> Tuning:
    """What was measured to be best for a bundle on this machine; the defaults where nothing fits."""
    for place in tuning_places(bundle):
        if place.is_file():
            found = _read(place, bundle)
            if isinstance(found, Tuning):
                _log.info("settings of %s are used", place)
                return found
            _log.warning("%s is ignored: %s. `roborefer-edge doctor --tune` measures again.", place, found)
    return Tuning()


def tuned_by(bundle: Bundle) -> Path | None:
    """The file whose settings hold, if one does."""
    fitting = (p for p in tuning_places(bundle) if p.is_file() and isinstance(_read(p, bundle), Tuning))
    return next(fitting, None)


def tuning_places(bundle: Bundle) -> tuple[Path, ...]:
    """Where the file may be, best first: beside the bundle's folder, so that no hashed folder changes."""
    folder = bundle.path.absolute()  # a link keeps its own file: what it points to may be read-only, or change
    if ".." in folder.parts:
        folder = folder.resolve()
    beside = folder.with_name(f"{folder.name}.tuning.toml")
    cache = cache_folder()
    if cache is None:
        return (beside,)
    return beside, cache / f"tuning-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.toml"


def write_tuning(bundle: Bundle, tuning: Tuning, comments: Sequence[str] = ()) -> Path:
    """Write the file to the first place that takes it, and remove it elsewhere.

    Args:
        bundle: What was measured.
        tuning: What was found.
        comments: Lines for people, put on top.

    Raises:
        StorageError: No place takes it.
    """
    text = "".join(f"{line}\n" for line in (*(f"# {comment}" for comment in comments), *_lines(bundle, tuning)))
    refused: StorageError | None = None
    for place in tuning_places(bundle):
        try:
            with whole_file(place) as partial:
                partial.write_text(text, encoding="utf-8")
        except StorageError as error:
            refused = error
            continue
        return place
    assert refused is not None  # there is always a place to try
    raise refused


def forget_tuning(bundle: Bundle) -> None:
    """Remove what was written, so that the defaults hold again.

    Raises:
        StorageError: A file cannot be removed.
    """
    for place in tuning_places(bundle):
        with storage_errors(place):
            place.unlink(missing_ok=True)


# --- the file -------------------------------------------------------------------------------------------


def _lines(bundle: Bundle, tuning: Tuning) -> Iterator[str]:
    yield f"version = {VERSION}"
    yield f"board = {json.dumps(probe_board().model)}"
    yield "[measured_on]"
    yield from (f'{name} = "{value}"' for name, value in _measured_on(bundle).items())
    yield "[settings]"
    # JSON's text, numbers and booleans are TOML's too; what is not set is left out
    yield from (f"{name} = {json.dumps(value)}" for name, value in asdict(tuning).items() if value is not None)


def _measured_on(bundle: Bundle) -> dict[str, str]:
    """What has to be the same for the settings to hold."""
    libraries = json.dumps([onnxruntime_facts(), llama_cpp_facts()])
    return {
        "bundle": manifest_sha256(bundle.path),
        "machine": machine_sha256(),
        "libraries": hashlib.sha256(libraries.encode()).hexdigest(),
    }


def _read(place: Path, bundle: Bundle) -> Tuning | str:
    """The settings, or why they do not hold."""
    try:
        table = tomllib.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"it cannot be read ({error})"
    if table.get("version") != VERSION:
        return f"its version is {table.get('version')!r}, this program reads {VERSION}"
    try:
        here = _measured_on(bundle)
    except EdgeError as error:
        return str(error)
    measured_on = table.get("measured_on")
    if not isinstance(measured_on, Mapping):
        return "it does not say where it was measured"
    if other := [what for what in here if measured_on.get(what) != here[what]]:
        return f"it was measured with another {' and another '.join(other)}"
    return _settings(table.get("settings"))


def _settings(table: object) -> Tuning | str:
    if not isinstance(table, Mapping):
        return "it holds no settings"
    known = {f.name for f in fields(Tuning)}
    if wrong := [name for name, value in table.items() if name not in known or not _is_possible(name, value)]:
        return f"{', '.join(sorted(wrong))}: unknown or impossible"
    return Tuning(**table)


def _is_possible(name: str, value: Any) -> bool:
    if name == "side_by_side":
        return isinstance(value, bool)
    if name in ("provider", "kv_type"):
        return value in (KNOWN if name == "provider" else get_args(KvType))
    most = MOST_ROWS if name == "ubatch" else MOST_THREADS
    return type(value) is int and 1 <= value <= most
