"""What the manifest of an exported bundle says, against the recorded facts of each variant."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.manifest import DepthSpec, read_manifest, rounded_up
from edge_runtime.prompt import POINT_SUFFIX
from export.bundle_manifest import library_versions, licence_of, manifest_of
from train.checkpoint import load_checkpoint, save_checkpoint
from train.seeded import VARIANTS, seeded_checkpoint


@pytest.mark.reference
@pytest.mark.parametrize("variant", ["A", "B", "C", "D"])
def test_manifests_hold_the_recorded_facts(golden: Path, variant: str) -> None:
    checkpoint = load_checkpoint(golden / variant / "checkpoint")
    manifest = manifest_of(checkpoint, name="x", decoder_dtype="f32")
    recorded = json.loads((golden / variant / "golden.json").read_text())
    tokenizer, config = recorded["tokenizer"], recorded["loaded_config"]
    assert dict(manifest.tokens.special) == tokenizer["added_vocab"]
    assert list(manifest.tokens.stop) == recorded["generation"]["stop_token_ids"]
    assert [manifest.tokens.newline] == tokenizer["newline_ids"]
    assert manifest.dims.vocab_size == tokenizer["embed_rows"]
    assert manifest.dims.context_tokens == recorded["generation"]["model_max_length"]
    assert manifest.dims.decoder_width == config["hidden_size"]
    scales = len(manifest.image.s2_scales) or 1
    assert manifest.dims.tower_width * scales == config["mm_hidden_size"]
    assert manifest.image.mode == config["image_aspect_ratio"]
    assert (manifest.image.min_tiles, manifest.image.max_tiles) == (config["min_tiles"], config["max_tiles"])
    if scales > 1:
        assert list(manifest.image.s2_scales) == config["s2_scales"]
    for case in recorded["cases"].values():
        text = case["prompt_text"]
        assert text.startswith(manifest.prompt.prefix)
        assert text.endswith(manifest.prompt.suffix)
    assert manifest.prompt.point_suffix == POINT_SUFFIX
    assert manifest.tokens.normalizer == "nfc"


def test_a_manifest_is_read_back_equal(exported: Callable[[str], Any]) -> None:
    manifest = exported("rgb_only").result.bundle.manifest
    assert read_manifest(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert set(manifest.tolerances) == {"preprocess", "rgb_tower", "rgb_projector", "decoder_logits"}
    assert all(0 <= t.measured <= t.limit for t in manifest.tolerances.values())
    assert manifest.depth == DepthSpec(convention="inverse", low_percentile=1.0, high_percentile=99.0)
    assert manifest.lineage.parent_sha256 is None
    assert dict(manifest.lineage.versions) == library_versions()
    assert {"torch", "transformers", "onnx", "gguf"} <= set(manifest.lineage.versions)


def test_lineage_follows_the_weights(checkpoint_folder: Callable[[str], Path], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_folder("rgb_only"))
    copy = tmp_path / "copy"
    save_checkpoint(checkpoint, copy)
    same = load_checkpoint(copy)
    same.model.mm_projector.get_parameter("layers.2.weight").data[0, 0] += 1.0
    save_checkpoint(same, tmp_path / "other")
    hashes = [load_checkpoint(p).source_hash for p in (copy, tmp_path / "other")]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("stated", "file", "expected"),
    [
        ("apache-2.0", "MIT License\n", "apache-2.0"),
        (None, "\n  MIT License\n\nPermission ...", "MIT License"),
        (None, None, "unknown: derived from weights; NVILA-derived weights are CC-BY-NC-SA-4.0"),
        (7, None, "unknown: derived from weights; NVILA-derived weights are CC-BY-NC-SA-4.0"),
        ("  ", "", "unknown"),
    ],
)
def test_licences(tmp_path: Path, stated: object, file: str | None, expected: str) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    if file is not None:
        (folder / "LICENSE").write_text(file)
    checkpoint = seeded_checkpoint(VARIANTS["rgb_only"])
    config = dataclasses.replace(checkpoint.config, other={"license": stated} if stated else {})
    assert licence_of(dataclasses.replace(checkpoint, config=config, path=folder)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [(0.0, 0.0), (4.671e-7, 4.7e-7), (4.6e-7, 4.6e-7), (9.991e-3, 1e-2), (0.123, 0.13), (1.0, 1.0), (12.31, 13.0)],
)
def test_errors_are_rounded_up(error: float, expected: float) -> None:
    assert rounded_up(error) == expected
    assert rounded_up(error) >= error * (1 - 1e-12)
