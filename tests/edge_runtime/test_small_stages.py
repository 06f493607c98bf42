"""Confidence, timing, drawing and the checks on views: small pieces with exact expectations."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from edge_runtime.annotate import annotated, check_picture_path, write_picture
from edge_runtime.cache import cache_folder, recall, remember
from edge_runtime.confidence import span_confidence
from edge_runtime.errors import ConfigError, DepthError, StorageError
from edge_runtime.metrics import STAGES, StageTimer
from edge_runtime.records import Generation, MetricDepth, PointedAt, PointM, RelativeDepth, View
from tests.fakes import EchoReferrer


def generation(pieces: list[tuple[str, float]]) -> Generation:
    text, ends = "", []
    for piece, _ in pieces:
        text += piece
        ends.append(len(text))
    return Generation(
        text=text,
        token_ids=tuple(range(len(pieces))),
        token_probs=tuple(p for _, p in pieces),
        token_ends=tuple(ends),
        stopped=True,
        prompt_tokens=1,
        prefill_ms=0.0,
        decode_ms=0.0,
    )


def test_confidence_is_the_geometric_mean_under_the_span() -> None:
    written = generation([("[(", 0.1), ("0.5", 0.9), (", ", 1.0), ("0.25", 0.4), (")]", 0.1)])
    assert span_confidence(written, (2, 11)) == pytest.approx((0.9 * 1.0 * 0.4) ** (1 / 3))


def test_tokens_without_text_and_outside_the_span_do_not_count() -> None:
    written = generation([("ab", 0.5), ("", 0.01), ("cd", 0.8)])
    assert span_confidence(written, (2, 4)) == pytest.approx(0.8)
    assert span_confidence(written, (9, 12)) == 0.0
    assert span_confidence(generation([("x", 0.0)]), (0, 1)) == pytest.approx(1e-12)


def test_stage_times_are_busy_times_and_the_total_is_wall_time() -> None:
    now = [10.0]
    timer = StageTimer(clock=lambda: now[0])
    with timer.stage("preprocess"):
        now[0] += 0.002
    now[0] += 1.0  # nobody's time
    with timer.stage("preprocess"):
        now[0] += 0.003
    timer.add("decode", 7.0)
    times = timer.timings_ms()
    assert times["preprocess"] == pytest.approx(5.0)
    assert times["decode"] == 7.0
    assert times["total"] == pytest.approx(1005.0)
    assert set(times) == {*STAGES, "total"}


def test_a_failing_stage_is_timed_all_the_same() -> None:
    now = [0.0]
    timer = StageTimer(clock=lambda: now[0])
    with pytest.raises(RuntimeError), timer.stage("parse"):
        now[0] += 0.004
        raise RuntimeError
    assert timer.timings_ms()["parse"] == pytest.approx(4.0)


def test_metric_depth_must_have_the_pictures_size() -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(DepthError, match=r"32x24, the picture is 64x48"):
        View(rgb, MetricDepth(np.ones((24, 32), np.float32)))
    assert View(rgb, RelativeDepth(np.zeros((24, 32, 3), np.uint8))).depth is not None


@pytest.mark.parametrize("px", [(0, 0), (63, 47), (0, 47), (63, 0), (32, 24)])
def test_marks_stay_in_the_picture_even_at_its_border(px: tuple[int, int]) -> None:
    rgb = np.full((48, 64, 3), 90, np.uint8)
    answer = EchoReferrer().refer([View(rgb)], "x")
    point = PointedAt((px[0] / 64, px[1] / 48), px, PointM((0.0, 0.0, 0.5)), 0.5)
    drawn = np.asarray(annotated(rgb, answer.__class__(**{**answer.__dict__, "points": (point,)}), "the cup " * 30))
    assert drawn.shape == rgb.shape
    changed = np.argwhere((drawn != rgb).any(axis=-1))
    nearest = np.abs(changed - [px[1], px[0]]).max(axis=1).min()
    assert nearest <= 6


@pytest.mark.parametrize("instruction", ["cup " * 2500, "W" * 10_000, "i" * 10_000, "\n" * 10_000 + "x"])
def test_a_long_instruction_is_cut_with_little_work(instruction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring text costs by the letter: counted in letters, not in seconds."""
    measured: list[str] = []
    whole = ImageDraw.ImageDraw.textlength

    def counted(self, text, *args, **options):
        measured.append(text)
        return whole(self, text, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "textlength", counted)
    rgb = np.full((480, 640, 3), 90, np.uint8)
    drawn = np.asarray(annotated(rgb, EchoReferrer().refer([View(rgb)], "x"), instruction))
    assert (drawn[440:] != rgb[440:]).any()
    assert len(measured) <= 12
    assert max(map(len, measured)) <= 640


@pytest.mark.parametrize("name", ["", "answer.xyz", "answer.eps", "answer.pn g", "."])
def test_a_picture_name_that_cannot_be_written_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"names no file|endings known are \.png"):
        check_picture_path(Path(name))
    with pytest.raises(ConfigError):
        write_picture(Image.new("RGB", (16, 16)), Path(name))


def test_a_folder_is_no_picture_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        check_picture_path(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("new/a.webp", "WEBP"), ("a.tiff", "TIFF"), ("a", "PNG")]
)
def test_a_picture_is_written_in_the_format_of_its_name(tmp_path: Path, name: str, kind: str) -> None:
    write_picture(Image.new("RGB", (16, 16)), tmp_path / name)
    with Image.open(tmp_path / name) as written:
        assert written.format == kind
    assert [p.name for p in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_a_picture_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write_picture(Image.new("RGB", (16, 16)), tmp_path / "file" / "a.png")


def test_without_a_home_nothing_is_remembered_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999)  # a number without an entry in the password file
    caplog.set_level(logging.INFO)
    for _ in range(2):
        remember("fact", {"a": 1})
    assert cache_folder() is None
    assert recall("fact") is None
    assert [r.message for r in caplog.records if "no home folder" in r.message] != []
    assert len(caplog.records) == 1


def test_a_cache_that_is_damaged_or_cannot_be_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("fact", {"a": 1})
    assert recall("fact") == {"a": 1}
    (tmp_path / "roborefer-edge" / "fact.json").write_text("[" * 200_000)
    assert recall("fact") is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember("fact", {"a": 1})
    assert recall("fact") is None


def test_a_caption_holds_as_many_letters_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    write = ImageDraw.ImageDraw.text

    def spy(self: ImageDraw.ImageDraw, at: tuple[float, float], text: str, **options: Any) -> None:
        shown.append(text)
        write(self, at, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    rgb = np.full((48, 320, 3), 90, np.uint8)
    annotated(rgb, replace(EchoReferrer().refer([View(rgb)], "x"), points=()), "W" * 10_000)
    draw, font = ImageDraw.Draw(Image.new("RGB", (8, 8))), ImageFont.load_default(11)
    assert shown[0].endswith("W…")
    assert draw.textlength(shown[0], font=font) <= 308 < draw.textlength("W" + shown[0], font=font)
