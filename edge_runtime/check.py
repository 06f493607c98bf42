"""Is this bundle whole, and does it give its golden numbers here? A list of findings, not a yes or no alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.bundle import DECODER, ESTIMATOR, ESTIMATOR_STAGE, GOLDEN, PREFILL, Bundle, open_bundle
from edge_runtime.depth_estimator import golden_error
from edge_runtime.errors import BundleInvalid, EdgeError
from edge_runtime.golden import GoldenCase, read_golden
from edge_runtime.golden_run import PIXEL_LIMIT, CaseResult, decoder_precision, doubtful_margin, run_case
from edge_runtime.native_check import decoder_verdict
from edge_runtime.pipeline import Pipeline
from edge_runtime.providers import CPU


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str
    measured: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class CheckReport:
    """Everything that was checked, in order; a failed step ends the list because the next ones rest on it."""

    bundle: Path
    name: str | None  # None: the manifest could not be read
    findings: tuple[Finding, ...]
    providers: dict[str, str] = field(default_factory=dict)  # graph -> provider that ran it

    @property
    def ok(self) -> bool:
        """Whether every finding is good."""
        return all(f.ok for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The object of `check --json`."""
        return {
            "kind": "check",
            "ok": self.ok,
            "bundle": str(self.bundle),
            "name": self.name,
            "checks": [
                {"name": f.name, "ok": f.ok, "detail": f.detail, "measured": f.measured, "limit": f.limit}
                for f in self.findings
            ],
            "providers": self.providers,
        }


def check_bundle(path: Path) -> CheckReport:
    """Check files, native code and numbers of a bundle.

    Never raises for a bad bundle or a bad machine: what is wrong is a finding.
    """
    try:
        bundle = open_bundle(path, full_hash=True)
    except EdgeError as error:
        return CheckReport(path, None, (_failed("files", error),))
    findings = [Finding("files", ok=True, detail=f"{len(bundle.manifest.files)} files, hashes and shapes as named")]
    try:
        verdict = decoder_verdict(bundle.file(DECODER))
        native_ok = verdict.extra_bufts != "unusable"
        findings.append(Finding("native", ok=native_ok, detail=verdict.reason))
        if not native_ok:
            return CheckReport(path, bundle.manifest.name, tuple(findings))
        numbers, providers = _check_numbers(bundle)
    except EdgeError as error:
        return CheckReport(path, bundle.manifest.name, (*findings, _failed("inference", error)))
    return CheckReport(path, bundle.manifest.name, (*findings, *numbers), providers)


def _check_numbers(bundle: Bundle) -> tuple[list[Finding], dict[str, str]]:
    """Run the golden cases through every stage."""
    cases = read_golden(bundle.file(GOLDEN))
    if not cases:
        raise BundleInvalid(f"{bundle.path / GOLDEN} holds no case; export the bundle again")
    kv_type, _ = decoder_precision(bundle)
    findings: list[Finding] = []
    with Pipeline.open(bundle.path, kv_type=kv_type) as pipeline:
        for case in cases:
            margin = doubtful_margin(bundle, case)
            findings += _findings(case, run_case(pipeline, case, doubtful_margin=margin), bundle)
        wanted = pipeline.encoders.providers
    graphs = sorted(n for n in bundle.manifest.files if n.endswith(".onnx"))
    providers = {name: CPU if name == PREFILL else wanted[0] for name in graphs}
    if bundle.has(ESTIMATOR):  # after the pipeline is closed: both at once need not fit into memory
        error, providers[ESTIMATOR] = golden_error(bundle, providers=wanted)
        findings.append(_finding(ESTIMATOR_STAGE, ESTIMATOR_STAGE, error, bundle))
    return findings, providers


def _findings(case: GoldenCase, result: CaseResult, bundle: Bundle) -> Iterator[Finding]:
    for stage, measured in result.errors.items():
        yield _finding(f"{case.name}/{stage}", stage, measured, bundle)
    yield Finding(
        f"{case.name}/prompt", ok=result.prompt_equal, detail=f"text and ids of {len(case.prompt_ids)} tokens"
    )
    yield Finding(f"{case.name}/greedy", ok=not result.flips, detail=_greedy_detail(result, bundle))


def _finding(name: str, stage: str, measured: float, bundle: Bundle) -> Finding:
    """Whether a stage's error is within what the manifest allows."""
    tolerance = bundle.manifest.tolerances.get(stage)
    limit = PIXEL_LIMIT if stage == "preprocess" else tolerance.limit if tolerance else None
    if limit is None:
        return Finding(name, ok=False, detail="the manifest states no tolerance for this stage")
    within = measured <= limit
    detail = "agrees with the golden values" if within else "differs from the golden values"
    finite = measured if measured < float("inf") else None
    return Finding(name, ok=within, detail=detail, measured=finite, limit=limit)


def _greedy_detail(result: CaseResult, bundle: Bundle) -> str:
    quantized = bundle.manifest.lineage.parent_sha256 is not None
    detail = f"{result.tokens} greedy tokens"
    if quantized:
        detail += f", {result.same_tokens} as the full-precision model chooses"
    if result.flips:
        detail += f", other choice at steps {list(result.flips)}"
    return detail


def _failed(name: str, error: EdgeError) -> Finding:
    return Finding(name, ok=False, detail=f"{type(error).__name__}: {error}")
