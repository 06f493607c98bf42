"""The file of `doctor --tune`: written beside the bundle, read where it was measured, ignored everywhere else."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime import tuning as module
from edge_runtime.bundle import Bundle, open_bundle, shipped_bundle
from edge_runtime.pipeline import Pipeline
from edge_runtime.tuning import Tuning, forget_tuning, tuned, tuned_by, tuning_places, write_tuning

FOUND = Tuning("CPUExecutionProvider", 1, False, 1, 2, 128, "q8_0")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "nano").symlink_to(shipped_bundle())
    return open_bundle(tmp_path / "nano")


def test_what_is_written_is_read_and_the_bundle_stays_whole(bundle: Bundle, tmp_path: Path) -> None:
    path = write_tuning(bundle, FOUND, ["before: 100 ms", "after: 80 ms"])
    assert path == tmp_path / "nano.tuning.toml"
    assert tuned(bundle) == FOUND
    assert tuned_by(bundle) == path
    assert open_bundle(bundle.path, full_hash=True) == bundle
    forget_tuning(bundle)
    assert tuned(bundle) == Tuning()


def test_what_is_not_set_stays_the_default(bundle: Bundle) -> None:
    write_tuning(bundle, Tuning(ubatch=64))
    assert tuned(bundle) == Tuning(ubatch=64)


def test_where_the_folder_takes_no_file_the_cache_does(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "nano.tuning.toml").mkdir()
    path = write_tuning(bundle, FOUND)
    assert path.parent == tmp_path / "cache/roborefer-edge"
    assert tuned(bundle) == FOUND


@pytest.mark.parametrize(
    ("part", "what"),
    [("machine_sha256", "machine"), ("onnxruntime_facts", "libraries"), ("manifest_sha256", "bundle")],
)
def test_what_was_measured_elsewhere_is_ignored_and_said(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str, what: str
) -> None:
    write_tuning(bundle, FOUND)
    monkeypatch.setattr(module, part, lambda *_: "another")
    caplog.set_level(logging.INFO)
    assert tuned(bundle) == Tuning()
    assert f"measured with another {what}" in caplog.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ("version = 1", "version = "),
        ("ubatch = 128", "ubatch = 0"),
        ("ubatch = 128", "ubatch = 1e9"),
        ("ubatch = 128", "batch = 128"),
        ("decode_threads = 1", "decode_threads = true"),
        ("decode_threads = 1", 'decode_threads = "1"'),
        ('kv_type = "q8_0"', 'kv_type = "q1"'),
        ("side_by_side = false", "side_by_side = 0"),
        ('provider = "CPU', 'provider = "Azure'),
        ("[settings]", "[others]"),
        ("[measured_on]", "[guessed]"),
    ],
)
def test_a_file_with_nonsense_is_ignored_as_a_whole(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, old: str, new: str
) -> None:
    path = write_tuning(bundle, FOUND)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert tuned(bundle) == Tuning()
    assert "is ignored" in caplog.text
    assert tuned_by(bundle) is None


def test_places_do_not_depend_on_where_one_stands(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "real/below")
    here, named = (tuning_places(Bundle(path, bundle.manifest)) for path in (Path(), tmp_path / "real/below"))
    assert here == named
    assert tuning_places(Bundle(Path(".."), bundle.manifest))[0] == tmp_path / "real.tuning.toml"


def test_what_is_asked_for_wins() -> None:
    asked = FOUND.with_asked(n_threads=7, kv_type="f32")
    assert asked == replace(FOUND, encoder_threads=7, decode_threads=7, prefill_threads=7, kv_type="f32")
    assert FOUND.with_asked(n_threads=None, kv_type=None) == FOUND


def test_opening_a_bundle_reads_the_file_and_explicit_arguments_win(bundle: Bundle) -> None:
    write_tuning(bundle, FOUND)
    with Pipeline.open(bundle.path) as pipeline:
        used = pipeline.decoder.settings
    assert (used.n_threads, used.n_prefill_threads, used.n_ubatch, used.kv_type) == (1, 2, 128, "q8_0")
    with Pipeline.open(bundle.path, n_threads=2, kv_type="f16") as pipeline:
        used = pipeline.decoder.settings
    assert (used.n_threads, used.n_prefill_threads, used.n_ubatch, used.kv_type) == (2, 2, 128, "f16")
    with Pipeline.of_bundle(bundle) as pipeline:  # staged bundles are measured as they are
        assert pipeline.decoder.settings.kv_type == "f16"
