"""Shards of questions on disk: made, opened again, and joined to data sets that `train/data` reads."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from hardware.storage import storage_errors, whole_file
from train.scans.errors import ScanInvalid
from train.scans.work import ShardPlan
from train.simulate.parts import JSON, PartsDone, Progress, begin, finish, make_parts, read_parts
from train.spatial.formats import TrainingSample, Turn, write_training
from train.spatial.forms import FormName

SHARDS, SHARD_FILE, SUMMARY_FILE, REGISTRY_FILE = "shards", "shard.json", "scans.json", "scans.toml"
FORMS: tuple[FormName, ...] = get_args(FormName)
EXAMPLES = 5  # of faulty frames named


@dataclass(frozen=True)
class ShardMade:
    """What making a shard came to."""

    folder: Path
    summary: JSON
    done: PartsDone | None  # None: it was there already


def make_shard(plan: ShardPlan, out: Path, *, workers: int, on_progress: Progress | None = None) -> ShardMade:
    """Make a shard, go on with a begun one, or open a finished one.

    Args:
        plan: Of the shard.
        out: The folder of all shards.
        workers: Processes.
        on_progress: Called after each frame.

    Raises:
        ShardInvalid: What is there was made with another plan.
        ScanInvalid: No frame of it can be used.
        StorageError: Disk full or not writable; finished frames stay.
    """
    folder = out / SHARDS / plan.name
    if folder.exists():
        return ShardMade(folder, _opened(folder, plan), None)
    staged = begin(folder, plan)
    done = make_parts(plan, staged, workers=workers, on_progress=on_progress)
    parts = read_parts(plan, staged)
    summary = {"plan": plan.to_json(), **_counts(parts)}
    if not any(summary["samples"].values()):
        raise ScanInvalid(f"no question came of {plan.parts} frames; left out were {_reasons(summary)}")
    with storage_errors(folder):
        for form in FORMS:
            write_training(staged / f"{form}.json", _samples(parts, form))
    with whole_file(staged / SHARD_FILE) as partial:
        partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    finish(staged, folder)
    return ShardMade(folder, summary, done)


def join_shards(out: Path, of: int) -> JSON:
    """Write the data sets over all shards: one JSON file for each form, and the registry that names them.

    Args:
        out: The folder of all shards.
        of: How many there must be.

    Returns:
        The counts of all shards together.

    Raises:
        ScanInvalid: Shards are missing, or were made with other settings than the first.
        StorageError: Disk full or not writable.
    """
    folders = [out / SHARDS / f"{number}-of-{of}" for number in range(of)]
    missing = [folder.name for folder in folders if not (folder / SHARD_FILE).is_file()]
    if missing:
        raise ScanInvalid(f"{len(missing)} of {of} shards are missing in {out / SHARDS}: {', '.join(missing[:20])}")
    summaries = [json.loads((folder / SHARD_FILE).read_text(encoding="utf-8")) for folder in folders]
    _check_alike(folders, summaries)
    for form in FORMS:
        with whole_file(out / f"{form}.json") as partial:
            _join(partial, [folder / f"{form}.json" for folder in folders])
    total = _total(summaries)
    with whole_file(out / REGISTRY_FILE) as partial:
        partial.write_text(_registry(total["samples"]), encoding="utf-8")
    with whole_file(out / SUMMARY_FILE) as partial:
        partial.write_text(json.dumps(total, indent=1) + "\n", encoding="utf-8")
    return total


def _join(target: Path, files: list[Path]) -> None:
    """One JSON list of several, an entry a line; one file is in memory at a time."""
    with target.open("w", encoding="utf-8") as joined:
        joined.write("[")
        separator = "\n"
        for file in files:
            for entry in json.loads(file.read_text(encoding="utf-8")):
                joined.write(separator + json.dumps(entry, ensure_ascii=False))
                separator = ",\n"
        joined.write("\n]\n")


def _registry(samples: dict[str, int]) -> str:
    tables = [
        f'[dataset.scans_{form}]\ndata_path = "{form}.json"\nimage_path = "{SHARDS}"\ndepth_path = "{SHARDS}"\n'
        for form, count in samples.items()
        if count
    ]
    return "# Written by `train scans`; paths are relative to this folder.\n\n" + "\n".join(tables)


def _check_alike(folders: list[Path], summaries: list[JSON]) -> None:
    own = ("captures", "frames", "shard")
    settings = [{name: v for name, v in s["plan"].items() if name not in own} for s in summaries]
    for folder, setting in zip(folders, settings, strict=True):
        if setting != settings[0]:
            differing = ", ".join(sorted(name for name in setting if setting[name] != settings[0].get(name)))
            raise ScanInvalid(f"{folder} was made with another {differing} than {folders[0]}; make it again")


def _counts(parts: list[JSON]) -> JSON:
    used = [part for part in parts if part["fault"] is None]
    faulty = [part for part in parts if part["fault"] is not None]
    made = Counter(form for part in used for form, _ in part["samples"])
    return {
        "captures": len({part["frame"]["capture"] for part in parts}),
        "frames": {
            "seen": len(parts),
            "used": len(used),
            "with_table": sum(part["has_table"] for part in used),
            "faults": dict(Counter(part["fault"] for part in faulty)),
            "examples": [f"{part['fault']}: {part['detail']}" for part in faulty[:EXAMPLES]],
        },
        "boxes": {
            "seen": sum(part["boxes"] for part in used),
            "kept": sum(part["kept"] for part in used),
            "filtered": dict(_sum(part["filtered"] for part in used)),
        },
        "tried": {form: _sum(part["tried"] for part in used).get(form, 0) for form in FORMS},
        "samples": {form: made.get(form, 0) for form in FORMS},
    }


def _total(summaries: list[JSON]) -> JSON:
    frames, boxes = [s["frames"] for s in summaries], [s["boxes"] for s in summaries]
    return {
        "captures": sum(s["captures"] for s in summaries),
        "frames": {
            **{name: sum(f[name] for f in frames) for name in ("seen", "used", "with_table")},
            "faults": dict(_sum(f["faults"] for f in frames)),
            "examples": [example for f in frames for example in f["examples"]][:EXAMPLES],
        },
        "boxes": {
            **{name: sum(b[name] for b in boxes) for name in ("seen", "kept")},
            "filtered": dict(_sum(b["filtered"] for b in boxes)),
        },
        "tried": {form: sum(s["tried"][form] for s in summaries) for form in FORMS},
        "samples": {form: sum(s["samples"][form] for s in summaries) for form in FORMS},
    }


def _sum(counts: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _reasons(summary: JSON) -> str:
    faults = {**summary["frames"]["faults"], **summary["boxes"]["filtered"]}
    return ", ".join(f"{fault} {count}" for fault, count in faults.items()) or "none"


def _samples(parts: list[JSON], form: FormName) -> Iterator[TrainingSample]:
    for part in parts:
        for own, sample in part["samples"]:
            if own == form:
                turns = tuple(Turn(**turn) for turn in sample["turns"])
                yield TrainingSample(sample["id"], tuple(sample["images"]), tuple(sample["depths"]), turns)


def _opened(folder: Path, plan: ShardPlan) -> JSON:
    try:
        summary = dict(json.loads((folder / SHARD_FILE).read_text(encoding="utf-8")))
        found = summary["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScanInvalid(f"{folder} exists and is no shard ({error}); remove it or choose another folder") from error
    wanted = plan.to_json()
    if found != wanted:
        differing = ", ".join(sorted(name for name in wanted if found.get(name) != wanted[name]))
        raise ScanInvalid(f"{folder} was made with another {differing}; remove it or choose another folder")
    return summary
