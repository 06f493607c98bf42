"""`bench accept`: from a checkpoint to a yes or no, in one command.

    export -> check -> quantize -> check -> the reference's answers -> ours -> compare -> report

Every step is a verb of its own in a child process; OUT holds what each of them made, and a stopped run goes on with
the first step that is not done. The answer is yes if the export agrees with torch, both bundles give their golden
numbers here, and the comparison with the reference does not come out worse. A step that says the bundle is wrong makes
it a no; one that could not be done (no server, no space) is an error, and the same command tries it again.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.accuracy import ANSWERS, write_report
from bench.answers import about_path, read_about
from bench.compare import BAND
from bench.compare_report import verdict_words
from bench.datasets import open_dataset
from bench.subjects import MODALITIES, bundle_modality
from bench.verb_child import VerbResult, run_verb
from bench.work_folder import claim, stamp
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import ConfigError
from hardware.storage import storage_errors

REPORT = "accept.json"
PAGE = "report.html"
STEPS = "steps"
# Exit code by which a verb says that what it was given, or made, is wrong.
_WRONG = 3
_WORSE = 6

Json = Mapping[str, Any]


@dataclass(frozen=True)
class AcceptRequest:
    """What to accept, by which questions, against whom."""

    checkpoint: Path
    data: Path
    out: Path
    reference_url: str | None = None  # an upstream server that runs this checkpoint
    reference_file: Path | None = None  # its answers, recorded elsewhere; neither: torch here
    model_name: str | None = None  # of the server's model
    device: str = "cpu"  # of torch, where it is the reference
    recipe: str = "cpu-int8"
    calibration: Path | None = None
    modality: str | None = None
    splits: tuple[str, ...] = ()
    limit: int | None = None  # questions per split
    seed: int = 0
    band: float = BAND  # of the comparison, as a share
    max_tiles: int | None = None
    threads: int | None = None
    timeout_s: float = 12 * 3600.0  # of one step


@dataclass(frozen=True)
class Step:
    """One step that is done."""

    name: str
    ok: bool  # False: it says the bundle is wrong
    detail: str
    duration_s: float
    report: Json | None


class NotAccepted(Exception):
    """A step found that the bundle is wrong."""


def run_acceptance(request: AcceptRequest, *, on_step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Do every step that is not done yet; the object of docs/schema/bench_accept.json.

    Raises:
        ConfigError: Flags contradict, or OUT holds other work.
        EdgeError: A step could not be done; the kind is that of its exit code.
    """
    _check(request)
    run = _Run(request, on_step)
    claim(run.out, _begun_with(request))
    reason = ""
    try:
        compared = _all_steps(run)
    except NotAccepted as no:
        compared, reason = None, str(no)
    report = _report(request, run, compared, reason)
    write_report(run.out / REPORT, report)
    _write_page(run.out, report)
    return report


def _all_steps(run: "_Run") -> Json:
    """Every step in order; gives the comparison.

    Raises:
        NotAccepted: A step says no.
    """
    request, out = run.request, run.out
    export, bundle = out / "export", out / "bundle"
    run.verb("export", _exported, "export", request.checkpoint.resolve(), export)
    run.verb("check the export", _checked, "check", export)
    data = ["--calibration", request.calibration.resolve()] if request.calibration else []
    run.verb("quantize", _quantized, "quantize", export, bundle, "--recipe", request.recipe, *data)
    run.verb("check the bundle", _checked, "check", bundle)
    modality = _modality(request, bundle)
    reference = _reference(run, modality)
    ours = out / "answers"
    tiles = ["--max-tiles", request.max_tiles] if request.max_tiles else []
    asked = [request.data.resolve(), "--out", ours, "--bundle", bundle, *_questions(request, modality), *tiles]
    run.verb("our answers", _answered, "bench", "accuracy", *asked, *run.threads)
    splits = _splits(request)
    compared = run.verb(
        "compare", _compared, "bench", "compare", reference, ours / ANSWERS, "--data", request.data.resolve(),
        "--out", out / "compare", "--band", 100 * request.band, *splits,
    )  # fmt: skip
    if compared["verdict"] == "worse":
        raise NotAccepted(verdict_words(compared))
    return compared


class _Run:
    """Steps that are done, and how the next one is done."""

    def __init__(self, request: AcceptRequest, on_step: Callable[[str], None]) -> None:
        self.request = request
        self.out = request.out.resolve()
        self.steps: list[Step] = []
        self._on_step = on_step

    @property
    def threads(self) -> list[object]:
        """The flag for verbs that take it."""
        return ["--threads", self.request.threads] if self.request.threads else []

    def verb(self, name: str, told: Callable[[Json], str], *arguments: object) -> Json:
        """Do a step, or take it as it was done.

        Args:
            name: For people, and for its file.
            told: What to say of its report.
            arguments: Of the verb.

        Raises:
            NotAccepted: The verb says that what it was given, or made, is wrong.
            EdgeError: It could not be done.
        """
        if (known := self._known(name)) is not None:
            return known
        self._on_step(name)
        result = run_verb(*arguments, timeout_s=self.request.timeout_s)
        self._keep_log(name, result)
        wrong = result.code == _WRONG and arguments[0] != "bench"
        if wrong:
            self.steps.append(Step(name, False, result.words, round(result.duration_s, 2), result.report))
            raise NotAccepted(f"{name}: {result.words}")
        report = result.insist(_WORSE)
        self.done(Step(name, report.get("verdict") != "worse", told(report), round(result.duration_s, 2), report))
        return report

    def done(self, step: Step) -> None:
        """Keep a step that went well: it is not done again."""
        self.steps.append(step)
        write_report(self._file(step.name), asdict(step))

    def _known(self, name: str) -> Json | None:
        path = self._file(name)
        if not path.is_file():
            return None
        step = Step(**json.loads(path.read_text(encoding="utf-8")))
        self.steps.append(step)
        return step.report

    def _keep_log(self, name: str, result: VerbResult) -> None:
        path = self._file(name).with_suffix(".log")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(result.log, encoding="utf-8")

    def _file(self, name: str) -> Path:
        return self.out / STEPS / f"{name.replace(' ', '-')}.json"


# --- the reference --------------------------------------------------------------------------------------


def _reference(run: _Run, modality: str) -> Path:
    """The reference's answers: from a file, from a server, or from torch here."""
    request, folder = run.request, run.out / "reference"
    asked = [request.data.resolve(), "--out", folder, *_questions(request, modality)]
    if request.reference_file is not None:
        _copy(request.reference_file, folder)
        run.done(Step("reference's answers", True, f"taken from {request.reference_file.name}", 0.0, None))
    elif request.reference_url is not None:
        name = ["--model-name", request.model_name] if request.model_name else []
        run.verb("reference's answers", _answered, "bench", "accuracy", *asked, "--url", request.reference_url, *name)
    else:
        run.verb(
            "reference's answers", _answered, "bench", "reference", request.checkpoint.resolve(), *asked,
            "--device", request.device,
        )  # fmt: skip
    return folder / ANSWERS


def _copy(file: Path, folder: Path) -> None:
    """The folder of the result holds everything it was made from."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / ANSWERS)
        if about_path(file).is_file():
            shutil.copyfile(about_path(file), about_path(folder / ANSWERS))


def _modality(request: AcceptRequest, bundle: Path) -> str:
    """As asked; else as the reference was asked; else depth where bundle and dataset have it."""
    told = None
    if request.modality is None and request.reference_file is not None:
        about = read_about(request.reference_file)
        told = about.subject.get("modality") if about else None
    if told in MODALITIES:
        return str(told)
    takes_depth = open_bundle(bundle).manifest.image.depth is not None
    has_depth = open_dataset(request.data, splits=request.splits, bar=False).has_depth
    return bundle_modality(request.modality, takes_depth=takes_depth, has_depth=has_depth)


def _questions(request: AcceptRequest, modality: str) -> list[object]:
    limit = ["--limit", request.limit] if request.limit else []
    return ["--modality", modality, "--seed", request.seed, *limit, *_splits(request)]


def _splits(request: AcceptRequest) -> list[object]:
    return [word for split in request.splits for word in ("--split", split)]


# --- what steps say -------------------------------------------------------------------------------------


def _exported(report: Json) -> str:
    return f"agrees with torch: {_closest(report['parity'])}; {report['bytes'] / 2**20:.1f} MiB"


def _quantized(report: Json) -> str:
    tokens = report["tokens"]
    return (
        f"{report['bytes'] / 2**20:.1f} of {report['parent_bytes'] / 2**20:.1f} MiB; {tokens['same']} of "
        f"{tokens['compared']} golden tokens as the export chooses them; {_closest(report['golden'])}"
    )


def _closest(stages: Mapping[str, Mapping[str, float]]) -> str:
    """The stage that comes nearest to its limit."""
    name, error = max(stages.items(), key=lambda entry: entry[1]["max_rel_error"] / max(entry[1]["limit"], 1e-12))
    return f"{name} {error['max_rel_error']:.1e} of {error['limit']:.0e}"


def _checked(report: Json) -> str:
    return f"{sum(one['ok'] for one in report['checks'])} of {len(report['checks'])} checks"


def _answered(report: Json) -> str:
    splits = report["splits"]
    told = ", ".join(f"{name} {100 * split['accuracy']:.1f} %" for name, split in splits.items())
    return f"{sum(split['n'] for split in splits.values())} questions: {told}"


def _compared(report: Json) -> str:
    return verdict_words(report)


# --- the answer -----------------------------------------------------------------------------------------


def _report(request: AcceptRequest, run: _Run, compared: Json | None, no: str) -> dict[str, Any]:
    return {
        "kind": "bench_accept",
        "accepted": compared is not None,
        "reason": _why(compared) if compared is not None else no,
        "checkpoint": request.checkpoint.resolve().name,
        "recipe": request.recipe,
        "reference": _reference_words(request),
        "bundle": str(run.out / "bundle") if (run.out / "bundle").is_dir() else None,
        "page": str(run.out / PAGE),
        "verdict": compared["verdict"] if compared else _verdict(run),
        "steps": [asdict(step) | {"report": None} for step in run.steps],
    }


def _why(compared: Json) -> str:
    """What a yes is worth: how much may be lost all the same."""
    lost = max(0.0, -100 * compared["difference"]["low"])
    sure = "" if compared["conclusive"] else f", as far as {compared['n']} questions can tell"
    return f"{compared['verdict']} as the reference{sure}: at most {lost:.1f} points are lost (95 %)"


def _verdict(run: _Run) -> str | None:
    reports = [step.report for step in run.steps if step.report is not None]
    return next((report["verdict"] for report in reports if "verdict" in report), None)


def _reference_words(request: AcceptRequest) -> str:
    if request.reference_file is not None:
        return f"answers in {request.reference_file.name}"
    if request.reference_url is not None:
        return f"server {request.model_name or 'of the user'}"
    return f"bench reference on this machine ({request.device})"


def _write_page(out: Path, report: Json) -> None:
    from bench.report.verb import ReportRequest, make

    answer = "accepted" if report["accepted"] else "not accepted"
    make(ReportRequest(out, html=out / PAGE, title=f"{report['checkpoint']}: {answer}"))


def lines_of(report: Json) -> Iterator[str]:
    """The answer as a person reads it."""
    for step in report["steps"]:
        mark = "ok    " if step["ok"] else "FAILED"
        yield f"{mark}  {step['name']:<20} {step['detail']}  ({step['duration_s']:.0f} s)"
    yield f"{'YES' if report['accepted'] else 'NO'}: {report['reason']}"
    yield f"page: {report['page']}"


def _check(request: AcceptRequest) -> None:
    if request.reference_url is not None and request.reference_file is not None:
        raise ConfigError("--reference-url and --reference name two references: choose one")
    if request.reference_file is not None and not request.reference_file.is_file():
        raise ConfigError(f"there is no file {request.reference_file}; `bench reference` or `bench accuracy` makes one")
    out = request.out.resolve()
    if out in (request.checkpoint.resolve(), request.data.resolve()):
        raise ConfigError(f"--out {request.out} is what is to be accepted; name a new folder")


def _begun_with(request: AcceptRequest) -> dict[str, Any]:
    """Everything that decides the result; whoever asks for something else needs another folder."""
    file = request.reference_file
    return {
        "checkpoint": stamp(request.checkpoint),
        "data": stamp(request.data),
        "calibration": str(request.calibration) if request.calibration else None,
        "reference": str(file) if file else None,
        "reference_bytes": file.stat().st_size if file else None,
        "server": request.reference_url is not None,
        "model_name": request.model_name,
        **{
            name: getattr(request, name)
            for name in ("recipe", "modality", "splits", "limit", "seed", "band", "max_tiles")
        },
    }
