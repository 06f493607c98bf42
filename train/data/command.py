"""What `train prepare` and `train inspect` do with their flags, and how their reports look to a person."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, DataError
from hardware.storage import whole_file
from train.data.errors import ArchiveInvalid
from train.data.inspection import DatasetFound, Progress, inspect, report_of
from train.data.mixture import Ingredient, parse_mixture
from train.data.prepare import Prepared, prepare
from train.data.registry import load_registry
from train.data.token_lengths import as_json, token_counter

JSON = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """What to inspect, as asked on the command line."""

    root: Path
    mixture: str | None = None  # all data sets that are there if None
    registries: tuple[Path, ...] = ()
    model: str = "2b"
    sampled: int = 200  # samples opened of each data set
    sheet: Path | None = None
    sheet_samples: int = 12  # of each data set


def run_prepare(root: Path, *, workers: int, delete_archives: bool) -> JSON:
    """Extract and verify a download.

    Raises:
        ArchiveInvalid: No archive there, or a part is missing.
        StorageError: Disk full or not writable.
    """
    with _bar() as step:
        made = prepare(
            root,
            workers=workers,
            delete_archives=delete_archives,
            on_progress=lambda done, total: step("extracting", done, total),
        )
    return _prepared_json(made)


def refuse_failed(report: JSON) -> None:
    """End with an error if an archive is not whole on the disk; after the report was shown.

    Raises:
        ArchiveInvalid: One is not.
    """
    failed = [a["name"] for a in report["archives"] if a["error"] is not None]
    if failed:
        raise ArchiveInvalid(f"{len(failed)} of {len(report['archives'])} archives are not whole: {', '.join(failed)}")


def run_inspect(look: Look) -> JSON:
    """Look at data sets and write the contact sheet.

    Raises:
        ConfigError: A name, a registry or a mixture is wrong.
        DataError: A data set is absent or holds nothing good.
        StorageError: The sheet cannot be written.
    """
    if not look.root.is_dir():
        raise DataError(f"{look.root} is no folder; name the one that holds the data sets")
    counter = token_counter(look.model)
    found: list[DatasetFound] = []
    with _bar() as step:
        kept = look.sheet_samples if look.sheet is not None else 0
        found += inspect(_chosen(look), counter, sampled=max(look.sampled, kept), kept=kept, on_progress=step)
    reports = [report_of(one, counter) for one in found]
    if look.sheet is not None:
        from train.data.sheet import sheet

        page = sheet(
            f"Samples of {look.root.name or look.root}", list(zip(found, reports, strict=True)), as_json(counter)
        )
        with whole_file(look.sheet) as partial:
            partial.write_text(page, encoding="utf-8")
    return {
        "kind": "train_inspect",
        "root": str(look.root),
        "datasets": reports,
        "samples": sum(r["samples"] for r in reports),
        "per_epoch": sum(r["per_epoch"] for r in reports),
        "tokens": as_json(counter),
        "sheet": None if look.sheet is None else str(look.sheet),
    }


def show_prepared(report: JSON) -> str:
    """The report of `prepare` for a person."""
    lines = [_archive_line(a) for a in report["archives"]]
    lines += [f"note: {note}" for note in report["notes"]]
    lines.append(
        f"{report['files']} files, {_size(report['extracted_bytes'])}, in {report['seconds']:.0f} s"
        + (f"; {_size(report['deleted_bytes'])} of archives deleted" if report["deleted_bytes"] else "")
    )
    return "\n".join(lines)


def show_inspected(report: JSON) -> str:
    """The report of `inspect` for a person."""
    tokens = report["tokens"]
    lines = [line for one in report["datasets"] for line in _dataset_lines(one)]
    lines.append(f"{report['samples']} samples, {report['per_epoch']} in an epoch")
    lines.append(f"tokens: for {tokens['model']}, words {tokens['words']}, at most {tokens['context']}")
    if report["sheet"] is not None:
        lines.append(f"contact sheet: {report['sheet']}")
    return "\n".join(lines)


def _chosen(look: Look) -> tuple[Ingredient, ...]:
    registry = load_registry(look.root, look.registries)
    if look.mixture is not None:
        return parse_mixture(look.mixture, registry)
    present = registry.present()
    if not present:
        files = sorted({str(entry.data_path) for entry in registry.entries.values()})
        raise ConfigError(f"{look.root} holds none of the known data sets; looked for {', '.join(files)}")
    return tuple(Ingredient(entry) for entry in present)


def _prepared_json(made: Prepared) -> JSON:
    gone = [a for a in made.archives if a.deleted]
    return {
        "kind": "train_prepare",
        "root": str(made.root),
        "archives": [asdict(outcome) for outcome in made.archives],
        "files": sum(a.files for a in made.archives),
        "extracted_bytes": sum(a.extracted_bytes for a in made.archives),
        "deleted_bytes": sum(a.bytes for a in gone),
        "notes": list(made.notes),
        "seconds": round(made.seconds, 2),
    }


_STATES = {
    "extracted": "extracted",
    "was_there": "was there",
    "deleted_before": "was there, archive deleted before",
    "failed": "FAILED",
}


def _archive_line(archive: JSON) -> str:
    if archive["error"] is not None:
        return f"{archive['name']}: FAILED: {archive['error']}"
    parts = f" in {archive['parts']} parts" if archive["parts"] > 1 else ""
    hashed = f", sha256 of {archive['hashed_parts']} right" if archive["hashed_parts"] else ""
    deleted = ", archive deleted" if archive["deleted"] else ""
    return (
        f"{archive['name']}{parts}: {_STATES[archive['state']]}, {archive['files']} files, "
        f"{_size(archive['extracted_bytes'])}, {archive['verified']} verified{hashed}{deleted}"
    )


def _dataset_lines(one: JSON) -> list[str]:
    lines = [
        f"{one['name']}: {one['samples']} samples, {one['turns']} turns, {one['packs']} packs, "
        f"{one['several_pictures']} with several pictures"
    ]
    malformed, opened, tokens = one["malformed"], one["opened"], one["tokens"]
    if malformed["count"]:
        faults = ", ".join(f"{fault} {count}" for fault, count in malformed["by_fault"].items())
        lines.append(f"  {malformed['count']} malformed, left out: {faults}")
        lines += [f"    entry {m['position']} ({m['id']}): {m['detail']}" for m in malformed["examples"][:3]]
    for what in ("images", "depths"):
        files = one[what]
        if files is not None:
            example = f", such as {files['examples'][0]}" if files["missing"] else ""
            lines.append(f"  {what}: {files['named']} named, {files['missing']} missing{example}")
    if opened["count"]:
        example = f", such as {opened['examples'][0]['reason']}" if opened["damaged"] else ""
        lines.append(f"  {opened['count']} opened, {opened['damaged']} damaged{example}")
    if tokens is not None:
        long = f", {tokens['too_long']} too long" if tokens["too_long"] else ""
        lines.append(f"  tokens: median {tokens['median']}, p95 {tokens['p95']}, max {tokens['max']}{long}")
    return lines


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def step(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield step
