"""The error report as a page for people: one HTML file, nothing to load, the worst first."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

_WORST: Final = 20  # rows of a long table

_STYLE: Final = """ body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
color: #222 } h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } table { border-collapse: collapse;
margin: .5rem 0 } th, td { text-align: left; padding: .2rem .9rem .2rem 0 } td.n, th.n { text-align: right; font-
variant-numeric: tabular-nums } th { border-bottom: 1px solid #999 } tr:nth-child(even) td { background: #f5f5f5 }
.note { color: #666 } @media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } tr:nth-
child(even) td { background: #222 } }
"""

Row = Sequence[object]


def page_of(report: Mapping[str, Any]) -> str:
    """A report as HTML."""
    recipe = report["recipe"]
    parts = [
        f"<h1>What recipe {_text(recipe['name'])} changed</h1>",
        f"<p>{_text(recipe['summary'])}. Everything is compared with the full-precision bundle it was made from.</p>",
        _answers(report["answers"]),
        _golden(report["golden"]),
        _sizes(report["sizes"]),
        _decoder(report["decoder"]),
        *(_encoder(name, found) for name, found in report["encoders"].items()),
    ]
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><style>{_STYLE}</style>"
    title = f"<title>{_text(recipe['name'])}: error report</title>"
    return (
        f"<!doctype html>\n<html lang='en'><head>{head}{title}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _answers(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "<h2>Answers</h2><p class='note'>Not compared: no calibration data was named.</p>"
    shift, kl, picture = found["point_shift_px"], found["kl_nats"], "x".join(map(str, found["picture_px"]))
    rows: list[Row] = [
        ("identical answers", f"{found['identical']} of {found['questions']}"),
        ("answer tokens with the same first choice", f"{found['same_tokens']} of {found['tokens']}"),
        ("KL of answer tokens, nats: mean / p95 / max", f"{kl['mean']} / {kl['p95']} / {kl['max']}"),
        (f"point shift, px at {picture}: p50 / p95 / max", f"{shift['p50']} / {shift['p95']} / {shift['max']}"),
        ("answers whose points were compared", f"{shift['compared']} of {found['questions']}"),
    ]
    return "<h2>Answers on the calibration questions</h2>" + _table(("", ""), rows)


def _golden(found: Mapping[str, Any]) -> str:
    rows = [(stage, f"{e['max_rel_error']:.1e}", f"{e['limit']:.1e}") for stage, e in found["stages"].items()]
    tokens = f"<p>{found['same_tokens']} of {found['tokens']} golden tokens are the same.</p>"
    return "<h2>Golden cases, stage by stage</h2>" + _table(("stage", "largest error", "allowed"), rows) + tokens


def _sizes(found: Mapping[str, Mapping[str, int]]) -> str:
    rows = [
        (name, f"{s['bytes'] / 2**20:.2f}", f"{s['parent_bytes'] / 2**20:.2f}", _share(s)) for name, s in found.items()
    ]
    return "<h2>Sizes</h2>" + _table(("file", "MiB", "before", "share"), rows)


def _decoder(found: Mapping[str, Any]) -> str:
    parts = [f"<h2>Decoder: {_text(found['asked'])} was asked for</h2>"]
    if found["replaced"]:
        parts.append(f"<p>llama.cpp stored {len(found['replaced'])} tensors in another type:</p>")
        parts.append(_table(("tensor",), [(line,) for line in found["replaced"][:_WORST]]))
    if found["compensated"]:
        gains = [w["error"] / max(w["error_nearest"], 1e-30) for w in found["compensated"]]
        mean = sum(gains) / len(gains)
        parts.append(f"<p>GPTQ: the error in the products of {len(gains)} weights fell to {mean:.0%} of nearest.</p>")
    if found["imported"]:
        parts.append(f"<p>{len(found['imported'])} weights were taken over from a GPTQ checkpoint.</p>")
    return "".join(parts) + _weights(found["tensors"])


def _encoder(name: str, found: Mapping[str, Any]) -> str:
    sqnr = "" if found["sqnr_db"] is None else f", output {found['sqnr_db']} dB above its noise"
    left_out = f"{len(found['excluded'])} layers stay in float" if found["excluded"] else "no layer left out"
    parts = [f"<h2>{_text(name)}</h2><p>{len(found['weights'])} weights quantized, {left_out}{sqnr}.</p>"]
    if found["excluded"]:
        parts.append(_table(("in float",), [(layer,) for layer in found["excluded"]]))
    if found["layers"]:
        worst = sorted(found["layers"], key=lambda layer: float(layer["sqnr_db"]))[:_WORST]
        rows = [(layer["layer"], layer["sqnr_db"], layer["cosine"]) for layer in worst]
        parts.append("<p>Layers alone, inputs and weights rounded, worst first:</p>")
        parts.append(_table(("layer", "SQNR, dB", "cosine"), rows))
    return "".join(parts) + _weights(found["weights"])


def _weights(found: Sequence[Mapping[str, Any]]) -> str:
    worst = sorted(found, key=lambda weight: float(weight["sqnr_db"]))[:_WORST]
    rows = [(w["name"], w["type"], w["sqnr_db"], w["max_error"]) for w in worst]
    note = f"<p class='note'>The {len(worst)} of {len(found)} weights with the largest error.</p>" if found else ""
    return note + (_table(("weight", "type", "SQNR, dB", "max error / max"), rows) if rows else "")


def _share(size: Mapping[str, int]) -> str:
    return f"{size['bytes'] / size['parent_bytes']:.0%}" if size["parent_bytes"] else ""


def _table(head: Sequence[str], rows: Iterable[Row]) -> str:
    titles = "".join(f"<th>{_text(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    kind = " class='n'" if isinstance(value, int | float) else ""
    return f"<td{kind}>{_text(value)}</td>"


def _text(value: object) -> str:
    return html.escape(str(value))
