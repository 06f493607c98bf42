"""The JSON schemas in docs/schema: valid drafts, strict where we own the object, and true of what we write."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from edge_runtime.records import Answer, FrameStamp, PointedAt, PointM, ReasoningStep
from tests.contracts.readme_tree import REPOSITORY

SCHEMAS = {path.stem: path for path in sorted((REPOSITORY / "docs" / "schema").glob("*.json"))}
FRAME = {"id": 7, "width": 640, "height": 480}
SHARE = {"accuracy": 0.5, "n": 4, "interval": [0.1, 0.9]}
CHECKED = {"name": "hashes", "ok": True, "detail": "9 files", "measured": None, "limit": None}


def validate(name: str, value: object) -> None:
    schema = json.loads(SCHEMAS[name].read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(value)


def answer(**changes: Any) -> dict[str, Any]:
    point = PointedAt((0.5, 0.25), (320, 120), PointM((0.1, -0.2, 0.9)), 0.75)
    whole = Answer(
        kind="points",
        answer="[(0.500, 0.250)]",
        valid=True,
        reason=None,
        points=(point,),
        steps=(ReasoningStep(1, "Position", "mug", "[(0.5, 0.2)]"),),
        depth_source="sensor",
        timings_ms={"preprocess": 1.0, "prefill": 20.5, "total": 30.0},
        prompt_tokens=300,
        generated_tokens=14,
        bundle="nano",
        frame=FrameStamp(7, 640, 480),
    )
    return {**json.loads(json.dumps(whole.to_json())), **changes}


def test_all_outputs_have_a_schema() -> None:
    assert {"refer", "run", "check", "doctor", "export", "record", "bench_accuracy"} <= set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_a_valid_draft_2020_12(name: str) -> None:
    schema = json.loads(SCHEMAS[name].read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


def test_refer_and_run_describe_points_alike() -> None:
    refer, run = (json.loads(SCHEMAS[name].read_text(encoding="utf-8")) for name in ("refer", "run"))
    assert {name: run["$defs"][name] for name in refer["$defs"]} == refer["$defs"]
    changed = {"kind", "age_ms", "dropped", "instruction"}
    properties = run["$defs"]["answer"]["properties"]
    assert {k: v for k, v in properties.items() if k not in changed} == {
        k: v for k, v in refer["properties"].items() if k != "kind"
    }


GOOD = {
    "answer as the runtime writes it": ("refer", answer()),
    "text answer": ("refer", answer(kind="text", points=[], steps=[])),
    "invalid answer with its reason": ("refer", answer(valid=False, reason="no point in the text", points=[])),
    "run: answer": ("run", answer(kind="answer", age_ms=12.5, dropped=3)),
    "run: target": (
        "run",
        {
            "kind": "target", "state": "lost", "px": None, "camera_m": None, "base_m": None,
            "confidence": 0.0, "age_ms": 40.0, "frame": FRAME,
        },
    ),
    "run: summary": (
        "run",
        {
            "kind": "summary", "answers": 2, "valid_answers": 2, "frames": 60, "dropped": 58,
            "duration_s": 2.0, "ended": "end_of_replay", "bundle": "nano",
        },
    ),
    "check": (
        "check",
        {
            "kind": "check", "ok": True, "bundle": "/b", "name": "nano", "checks": [CHECKED],
            "providers": {"rgb_tower": "CPUExecutionProvider"},
        },
    ),
    "doctor": (
        "doctor",
        {
            "kind": "doctor", "ok": False, "board": {"model": "unknown", "cores": 2},
            "memory_mib": {"total": 8000, "available": 5000},
        "bundle": {"ok": True, "detail": "nano"},
            "providers": [{"name": "CPUExecutionProvider", "ok": True, "detail": "ran"}],
            "encoders": {"ok": True, "detail": "CPUExecutionProvider: alone"}, "tuning": None,
            "native": {"ok": True, "detail": "Q4_0 ran"}, "camera": {"ok": False, "detail": "none found"},
            "warnings": [{"what": "no camera", "fix": "plug one in"}],
        },
    ),
    "export": (
        "export",
        {
            "kind": "export", "bundle": "/b", "name": "tiny", "bytes": 100,
            "parity": {"rgb_tower": {"max_rel_error": 1e-6, "limit": 1e-3}}, "checkpoint": "/c", "duration_s": 3.0,
        },
    ),
    "bench accuracy": (
        "bench_accuracy",
        {
            "kind": "bench_accuracy",
            "splits": {
                "Location": {
                    **SHARE, "accuracy_upstream": None, "parse_failures": 4, "upstream_excluded": 4,
                    "by_step": {"1": SHARE}, "by_kind": {},
                },
            },
            "mean": 0.5, "mean_upstream": None, "auroc": 0.75, "by": {"noun": {"cup": SHARE}},
            "absent": {**SHARE, "threshold": 0.5, "auroc": None},
            "subject": {"kind": "bundle", "name": "nano", "modality": "rgbd", "settings": {"max_tiles": 1}},
            "dataset": {"name": "sim", "hash": "0" * 64},
        },
    ),
    "service: install": (
        "service",
        {
            "kind": "service", "action": "install", "root": "/", "dry_run": False,
            "files": [{"path": "/etc/systemd/system/roborefer-edge.service", "state": "new"}],
            "commands": [{"argv": ["systemctl", "daemon-reload"], "ran": True, "reason": None}], "advice": "look",
        },
    ),
    "record": ("record", {"kind": "record", "path": "/clip", "frames": 60, "dropped": 0, "duration_s": 2.0}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), GOOD.values(), ids=GOOD)
def test_example_is_accepted(name: str, value: dict[str, Any]) -> None:
    validate(name, value)


@pytest.mark.parametrize(("name", "value"), GOOD.values(), ids=GOOD)
def test_unknown_and_missing_keys_are_refused(name: str, value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validate(name, {**value, "surprise": 1})
    for key in value:
        with pytest.raises(ValidationError):
            validate(name, {k: v for k, v in value.items() if k != key})


@pytest.mark.parametrize(
    "change",
    [
        {"valid": False, "reason": None},
        {"kind": "answer"},
        {"depth_source": "guessed"},
        {"timings_ms": {"prefill": 1.0}},
        {"points": [{"norm": [1.2, 0.5]}]},
    ],
    ids=str,
)
def test_wrong_answer_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validate("refer", answer(**change))
