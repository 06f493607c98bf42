"""The config file: taken whole or not at all, wrong keys named with what was meant, changes with what they take."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle import SYSTEM_BUNDLE, default_bundle, shipped_bundle
from edge_runtime.config import CameraConfig, Change, RunConfig, differences, read_config
from edge_runtime.errors import ConfigError
from edge_runtime.track_asking import AskSettings
from hardware.camera.recovery import RecoveryPolicy
from hardware.camera.settings import (
    CameraSettings,
    DepthFilterSettings,
    RgbSensorSettings,
    SpatialFilter,
    TemporalFilter,
)
from tests.conftest import REPOSITORY

WHOLE = """
instructions = ["the red cup", "the free area left of the plate"]
raw_prompt = true
sinks = ["jsonl", "mcap:run.mcap", "udp:127.0.0.1:9000", "jsonl:/elsewhere/answers.jsonl"]
log_dir = "logs"

[model]
bundle = "bundles/mine"
max_tiles = 3
threads = 2

[camera]
source = "software"
frame_timeout_ms = 800
base_from_camera = "/etc/robot/camera.json"

[camera.settings]
fps = 15
rgb.exposure_us = 8000

[camera.settings.filters]
decimation = 2
spatial = {}
temporal.alpha = 1

[camera.recovery]
backoff_s = [1, 2.5]
budget = 4

[worker]
load_ms = 600_000

[ask]
period_ms = "off"
moved_px = 40

[track]
fade_s = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.toml"


def refused(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_every_kind_of_value_is_read(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    config = read_config(file)
    assert config.instructions == ("the red cup", "the free area left of the plate")
    assert config.raw_prompt is True
    assert config.model.bundle == file.parent / "bundles/mine"
    assert (config.model.max_tiles, config.model.threads) == (3, 2)
    assert (config.camera.source, config.camera.frame_timeout_ms) == ("software", 800)
    assert config.camera.base_from_camera == Path("/etc/robot/camera.json")
    assert config.camera.settings == CameraSettings(
        fps=15,
        rgb=RgbSensorSettings(exposure_us=8000.0),
        filters=DepthFilterSettings(decimation=2, spatial=SpatialFilter(), temporal=TemporalFilter(alpha=1.0)),
    )
    assert config.camera.recovery == RecoveryPolicy(backoff_s=(1.0, 2.5), budget=4)
    assert config.worker.load_ms == 600_000
    assert config.ask == AskSettings(period_ms=None, moved_px=40.0)
    assert isinstance(config.ask.moved_px, float)
    assert config.track.fade_s == 5.0


def test_an_empty_file_is_every_default(file: Path) -> None:
    file.write_text("", encoding="utf-8")
    assert read_config(file) == RunConfig()


def test_file_sinks_write_to_the_log_folder(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    assert read_config(file).placed_sinks() == (
        "jsonl",
        f"mcap:{file.parent}/logs/run.mcap",
        "udp:127.0.0.1:9000",
        "jsonl:/elsewhere/answers.jsonl",
    )
    assert RunConfig(sinks=("mcap:run.mcap",)).placed_sinks() == ("mcap:run.mcap",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('camra = "software"', "unknown key 'camra'; did you mean 'camera'? known: instructions,"),
        ("[camera]\nsorce = 'x'", "unknown key 'camera.sorce'; did you mean 'source'? known: source,"),
        ("zzz = 1", "unknown key 'zzz'; known: instructions,"),
        ("[ask]\nPERIOD_MS = 1", "unknown key 'ask.PERIOD_MS'; did you mean 'period_ms'?"),
        ('[camera]\nframe_timeout_ms = "5 s"', "camera.frame_timeout_ms is the text '5 s', expected a whole number"),
        ("[camera]\nframe_timeout_ms = 5.5", "camera.frame_timeout_ms is the number 5.5, expected a whole number"),
        ("[model]\nmax_tiles = true", "model.max_tiles is true, expected a whole number"),
        ("raw_prompt = 1", "raw_prompt is the number 1, expected true or false"),
        ('instructions = "the cup"', "instructions is the text 'the cup', expected a list: instructions = [...]"),
        ('instructions = ["the cup", 7]', "instructions[1] is the number 7, expected a text"),
        ('instructions = ["  "]', "instructions[0] is empty"),
        ('camera = "realsense"', "camera is the text 'realsense', expected a table: [camera]"),
        ("[model]\nbundle = 5", "model.bundle is the number 5, expected a path"),
        ('[model]\nbundle = ""', "model.bundle is the text '', expected a path"),
        ("[ask]\nmoved_px = nan", "ask.moved_px is nan, expected a finite number"),
        ("[ask]\nmoved_px = 'on'", "ask.moved_px is the text 'on', expected a number"),
        ("[ask]\npause_ms = 'off'", "ask.pause_ms is the text 'off', expected a number"),
        ("log_dir = 2026-11-23", "log_dir is the date datetime.date(2026, 11, 23), expected a path"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(file: Path, text: str, said: str) -> None:
    assert said in refused(file, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nmax_tiles = 0", "model: max_tiles is at least 1, got 0"),
        ("[camera]\nframe_timeout_ms = 0", "camera: frame_timeout_ms is at least 1, got 0"),
        ("[ask]\nperiod_ms = 100", "ask: a period of 100.0 ms is shorter than the pause of 200.0 ms"),
        ("[camera.settings.filters]\ndecimation = 9", "camera.settings.filters: decimation is 1 to 8, got 9"),
        ("[camera.settings.filters.spatial]\nalpha = 2", "camera.settings.filters.spatial: alpha is 0.25 to 1, got 2"),
        ("[worker]\nload_ms = 0", "worker.load_ms must be above zero, got 0"),
        ("[track]\nfade_s = -1.0", "track.fade_s must be above zero, got -1.0"),
        ("[camera.recovery]\nbackoff_s = []", "camera.recovery.backoff_s is an empty list"),
    ],
)
def test_impossible_values_are_refused(file: Path, text: str, said: str) -> None:
    assert said in refused(file, text)


def test_zero_is_a_number_where_it_means_never(file: Path) -> None:
    file.write_text("[camera.recovery]\nreopenings = 0\nusb_resets = 0", encoding="utf-8")
    assert read_config(file).camera.recovery.usb_resets == 0


def test_everything_wrong_is_told_at_once(file: Path) -> None:
    said = refused(file, "sink = []\n[model]\nmax_tiles = 'few'\n[ask]\npatience = 0.5\n")
    lines = said.splitlines()
    assert len(lines) == 4
    assert "unknown key 'sink'; did you mean 'sinks'?" in lines[1]
    assert "model.max_tiles" in lines[2]
    assert lines[3].startswith("  ask: ")


@pytest.mark.parametrize("content", [b"instructions = [", b"a = 1\na = 2", b"\xff\xfe", b"[a]\n[a]", b"\0"])
def test_what_is_not_toml_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="is not TOML"):
        read_config(file)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config .*run\.toml: No such file"):
        read_config(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(file: Path) -> None:
    file.write_text("", encoding="utf-8")
    file.chmod(stat.S_IWUSR)
    with pytest.raises(ConfigError, match="Permission denied"):
        read_config(file)


def keys(record: Any, at: str = "") -> Iterator[tuple[str, object]]:
    """Every key of a config with its default."""
    for part in fields(record):
        value = getattr(record, part.name)
        yield from keys(value, f"{at}{part.name}.") if is_dataclass(value) else [(at + part.name, value)]


def test_the_page_has_every_key() -> None:
    page = (REPOSITORY / "docs" / "service.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    told = [key for row in rows for key in re.findall(r"`([\w.]+)`", row.split("|")[1])]
    assert [key for key, _ in keys(RunConfig()) if key not in told] == []


# --- what changed -------------------------------------------------------------------------------------


def test_nothing_changed(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    assert differences(read_config(file), read_config(file)) == ()


def test_changes_say_what_they_take() -> None:
    old = RunConfig(instructions=("the cup",))
    new = replace(
        old,
        instructions=("the plate",),
        sinks=("jsonl",),
        model=replace(old.model, bundle=Path("/new")),
        camera=replace(old.camera, source="software"),
        ask=AskSettings(period_ms=None),
    )
    assert differences(old, new) == (
        Change("instructions", ("the cup",), ("the plate",), "now"),
        Change("sinks", (), ("jsonl",), "restart"),
        Change("model.bundle", None, Path("/new"), "worker"),
        Change("camera.source", "realsense", "software", "restart"),
        Change("ask.period_ms", 2000.0, None, "now"),
    )
    assert [str(change) for change in differences(old, new)][2:] == [
        "model.bundle: off -> '/new' (worker)",
        "camera.source: 'realsense' -> 'software' (restart)",
        "ask.period_ms: 2000.0 -> off (now)",
    ]


def test_a_filter_that_is_switched_on_is_a_change() -> None:
    filtered = DepthFilterSettings(spatial=SpatialFilter())
    off, on = RunConfig(), RunConfig(camera=CameraConfig(settings=CameraSettings(filters=filtered)))
    assert differences(off, on) == (Change("camera.settings.filters.spatial", None, SpatialFilter(), "restart"),)
    assert [change.new for change in differences(on, off)] == [None]


# --- its place among the ways to name a bundle --------------------------------------------------------


def test_which_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOREFER_BUNDLE", raising=False)
    without = default_bundle(None)
    assert without in (SYSTEM_BUNDLE, shipped_bundle())
    assert default_bundle(Path("/configured")) == Path("/configured")
    monkeypatch.setenv("ROBOREFER_BUNDLE", "/from/environment")
    assert default_bundle(Path("/configured")) == Path("/from/environment")
