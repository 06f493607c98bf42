"""What quantization changed, as one object in the bundle (`error_report.json`) and as a page (`error_report.html`).

Per tensor its real type and its error, per stage the drift of the golden cases, end to end the drift of answers on the
calibration questions, and the sizes. No times: the same inputs give the same report; times are in `quantize_log.json`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.manifest import Tolerance
from hardware.storage import storage_errors
from quantize.answer_drift import PICTURE_PX, AnswerDrift, percentile
from quantize.decoder_files import DecoderOutcome
from quantize.encoder_static import EncoderOutcome
from quantize.gguf_tensors import GgufFile
from quantize.golden_errors import GoldenErrors
from quantize.recipes import Recipe
from quantize.report_page import page_of
from quantize.weight_error import WeightError, error_of_pieces

REPORT: Final = "error_report.json"
PAGE: Final = "error_report.html"
SCHEMA: Final = 1
K_QUANT_WIDTH: Final = 256


@dataclass(frozen=True)
class Findings:
    """Everything a run found out."""

    recipe: Recipe
    parent: Bundle
    encoders: Mapping[str, EncoderOutcome]
    decoder: DecoderOutcome
    golden: GoldenErrors
    tolerances: Mapping[str, Tolerance]
    answers: tuple[AnswerDrift, ...] = ()  # empty without calibration data


def write_report(folder: Path, findings: Findings) -> dict[str, Any]:
    """Write report and page into a staged bundle; gives the report.

    Raises:
        BundleInvalid: A tensor of the new decoder holds NaN or infinity.
        StorageError: Disk full or not writable.
    """
    report = report_of(folder, findings)
    with storage_errors(folder):
        (folder / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(page_of(report), encoding="utf-8")
    return report


def report_of(folder: Path, findings: Findings) -> dict[str, Any]:
    """The report as a JSON object (docs/schema/error_report.json)."""
    tensors = decoder_errors(findings.parent.file(DECODER), folder / DECODER)
    return {
        "kind": "error_report",
        "schema_version": SCHEMA,
        "recipe": asdict(findings.recipe) | {"providers": list(findings.recipe.providers)},
        "sizes": _sizes(folder, findings.parent),
        "encoders": {name: _encoder(outcome) for name, outcome in sorted(findings.encoders.items())},
        "decoder": {
            "asked": findings.recipe.decoder,
            "tensors": [_weight(error) for error in tensors],
            "replaced": list(replaced_types(folder / DECODER, findings.recipe.decoder)),
            "compensated": [
                {"name": w.name, "error_nearest": _short(w.error_nearest), "error": _short(w.error)}
                for w in findings.decoder.compensated
            ],
            "imported": list(findings.decoder.imported),
        },
        "golden": {
            "stages": {s: {"max_rel_error": t.measured, "limit": t.limit} for s, t in findings.tolerances.items()},
            "tokens": findings.golden.tokens,
            "same_tokens": findings.golden.same_tokens,
        },
        "answers": answers_json(findings.answers) if findings.answers else None,
    }


def decoder_errors(before: Path, after: Path) -> tuple[WeightError, ...]:
    """Every matrix of a quantized decoder against the full-precision one; some rows in memory at a time.

    Raises:
        BundleInvalid: A tensor holds NaN or infinity.
    """
    return tuple(_decoder_errors(GgufFile(before), GgufFile(after)))


def _decoder_errors(before: GgufFile, after: GgufFile) -> Iterator[WeightError]:
    known = {tensor.name for tensor in before.tensors}
    for tensor in after.tensors:
        if len(tensor.shape) > 1 and tensor.name in known:
            pieces = zip(before.pieces(tensor.name), after.pieces(tensor.name), strict=True)
            yield error_of_pieces(tensor.name, tensor.type, pieces)


def replaced_types(path: Path, asked: str) -> Iterator[str]:
    """Tensors that llama.cpp stored in another type because their width is no multiple of a K-quant's block."""
    if "_K" not in asked and not asked.startswith("IQ"):
        return
    for tensor in GgufFile(path).tensors:
        if len(tensor.shape) > 1 and tensor.shape[-1] % K_QUANT_WIDTH:
            yield f"{tensor.name}: {tensor.type}, its width {tensor.shape[-1]} is no multiple of {K_QUANT_WIDTH}"


def _sizes(folder: Path, parent: Bundle) -> dict[str, dict[str, int]]:
    names = sorted({*(p.name for p in folder.iterdir() if p.is_file()), *parent.manifest.files})
    ours = {name: (folder / name).stat().st_size if (folder / name).is_file() else 0 for name in names}
    theirs = {name: e.bytes for name, e in parent.manifest.files.items()}
    graphs = {name: size for name, size in ours.items() if name.removesuffix(".data").endswith((".onnx", ".gguf"))}
    return {name: {"bytes": size, "parent_bytes": theirs.get(name, 0)} for name, size in graphs.items()}


def _encoder(outcome: EncoderOutcome) -> dict[str, Any]:
    return {
        "weights": [_weight(error) for error in outcome.quantized],
        "excluded": list(outcome.excluded),
        "sqnr_db": None if outcome.sqnr_db is None else _short(outcome.sqnr_db),
        "layers": [
            {"layer": e.layer, "sqnr_db": _short(e.sqnr_db), "cosine": _short(e.cosine)} for e in outcome.layers
        ],
        "smoothing": [{"norm": s.norm, "alpha": s.alpha} for s in outcome.smoothing],
    }


def _weight(error: WeightError) -> dict[str, Any]:
    return {
        "name": error.name, "type": error.type, "sqnr_db": _short(error.sqnr_db), "max_error": _short(error.max_error)
    }  # fmt: skip


def answers_json(drifts: Sequence[AnswerDrift]) -> dict[str, Any]:
    """The object `answers` of a report."""
    kl = [drift.kl_nats for drift in drifts]
    shifts = [drift.shift_px for drift in drifts if drift.shift_px is not None]
    return {
        "questions": len(drifts),
        "identical": sum(drift.identical for drift in drifts),
        "tokens": sum(drift.tokens for drift in drifts),
        "same_tokens": sum(drift.same_tokens for drift in drifts),
        "kl_nats": {"mean": _short(sum(kl) / len(kl)), "p95": _short(percentile(kl, 95)), "max": _short(max(kl))},
        "kl_nats_of_each": [_short(value) for value in kl],  # in the order of the questions: to pair two reports
        "picture_px": list(PICTURE_PX),
        "point_shift_px": {
            "compared": len(shifts),
            **{f"p{q}": _short(percentile(shifts, q)) for q in (50, 95)},
            "max": _short(max(shifts, default=None)),
        },
    }


def _short(value: float | None) -> float | None:
    """Four digits: what the number of threads changes is behind them."""
    return None if value is None else float(f"{value:.4g}")
