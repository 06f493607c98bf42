"""Depth Anything V2 weights: both layouts give the same network, and what is something else is named."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DepthAnythingForDepthEstimation

from edge_runtime.errors import CheckpointError, ConfigError
from export.assemble import STEPS, export_bundle
from export.depth_anything import read_estimator
from tests.export.upstream_estimator import TINY, EstimatorShape, seeded_weights, upstream_forward, write_pth

TOLERANCE = 1e-5  # of the largest value: the same products, summed in another order


@pytest.fixture(scope="module")
def pth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pth(tmp_path_factory.mktemp("estimator") / "depth_anything_v2_vits.pth", seeded_weights(TINY))


@pytest.fixture(scope="module")
def hugging_face(pth: Path) -> Path:
    """The same weights as a folder, written by transformers itself."""
    folder = pth.parent / "folder"
    read_estimator(pth).model.save_pretrained(folder)
    processor = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "ensure_multiple_of": 14}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def estimated(model: Any, pixels: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(model(pixels).predicted_depth)


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(height * width))


def test_upstreams_file_computes_what_upstream_computes(pth: Path) -> None:
    """A tensor in another's place would show: the other side knows nothing of transformers."""
    found = estimated(read_estimator(pth).model, noise(84, 84))
    with torch.inference_mode():
        expected = upstream_forward(seeded_weights(TINY), noise(84, 84)).numpy()
    assert expected.std() > 0.01 * expected.max()  # the picture matters
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_both_layouts_give_the_same_network(pth: Path, hugging_face: Path) -> None:
    from_file, from_folder = read_estimator(pth).model, read_estimator(hugging_face).model
    theirs = DepthAnythingForDepthEstimation.from_pretrained(hugging_face).eval()
    states = [model.state_dict() for model in (from_file, from_folder, theirs)]
    for name, tensor in states[0].items():
        assert all(torch.equal(tensor, state[name]) for state in states[1:]), name
    pixels = noise(84, 126)
    np.testing.assert_array_equal(estimated(from_file, pixels), estimated(from_folder, pixels))
    expected = estimated(theirs, pixels)  # with another kernel for attention
    assert np.abs(estimated(from_folder, pixels) - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_published_sizes_bring_their_licence(pth: Path, tmp_path: Path) -> None:
    assert read_estimator(pth).licence == "depth estimator (Depth Anything V2 of width 64): unknown"
    small = EstimatorShape(384, 4, (8, 8, 8, 8), 8, side=6)
    found = read_estimator(write_pth(tmp_path / "small.pth", seeded_weights(small)))
    assert found.licence == "depth estimator (Depth Anything V2 Small): Apache-2.0"


def test_half_precision_weights_are_taken(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in seeded_weights(TINY).items()}
    model = read_estimator(write_pth(tmp_path / "half.pth", halves)).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# --- what is refused ------------------------------------------------------------------------------------------


class Payload:
    """What a pickle that runs code looks like."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        import os

        return os.system, ("touch /tmp/never",)


def _without(part: str) -> dict[str, Any]:
    return {name: tensor for name, tensor in seeded_weights(TINY).items() if part not in name}


BAD_FILES: dict[str, tuple[str, Callable[[], Any], str]] = {
    "no attention": ("w.pth", lambda: _without("qkv"), r"lacks 24 .*layer\.0\.attention\.attention\.key\.bias"),
    "no head": ("w.pth", lambda: _without("output_conv"), r"no Depth Anything V2: 'head\.conv2\.weight' is missing"),
    "the giant's other layers": (
        "w.pth", lambda: {**seeded_weights(TINY), "pretrained.blocks.0.mlp.w12.weight": torch.zeros(2)},
        r"Small, Base or Large: .*mlp\.w12\.weight",
    ),
    "another network": ("w.pth", lambda: {"conv1.weight": torch.zeros(2)}, r"tensors that those have not: \['conv1"),
    "a tensor of another size": (
        "w.pth", lambda: {**seeded_weights(TINY), "depth_head.projects.3.bias": torch.zeros(7)},
        r"layers\.3\.projection\.bias.*\[7\], \[32\]",
    ),
    "metric, by its name": ("depth_anything_v2_metric_hypersim_vits.pth", lambda: seeded_weights(TINY), "metric"),
    "V1, by its name": ("depth_anything_vits14.pth", lambda: seeded_weights(TINY), "only V2 is supported"),
    "a checkpoint with other things": ("w.pth", lambda: {"model": {}, "epoch": 3}, "no table of tensors"),
    "a list": ("w.pth", lambda: [torch.zeros(2)], "no table of tensors"),
    "code": ("w.pth", lambda: {"a": Payload()}, "could run code"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "held", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, held: Callable[[], Any], message: str) -> None:
    torch.save(held(), tmp_path / name)
    with pytest.raises(CheckpointError, match=message):
        read_estimator(tmp_path / name)
    assert not Path("/tmp/never").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 half an archive"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pth cannot be read as tensors"):
        read_estimator(tmp_path / "w.pth")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no depth estimator at .*gone\.pth"):
        read_estimator(tmp_path / "gone.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        read_estimator(tmp_path / "empty")


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        backbone = changes.pop("backbone_config", {})
        config |= changes
        config["backbone_config"] |= backbone
        (folder / "config.json").write_text(json.dumps(config))

    return change


def _processor(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def _no_tensor(part: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        kept = {name: t for name, t in load_file(folder / "model.safetensors").items() if part not in name}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    return change


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "metric": (_config(depth_estimation_type="metric"), "depth_estimation_type is metric.*metric variant"),
    "V1": (
        _config(backbone_config={"out_indices": [0, 2, 3, 4], "out_features": None}), "only V2 is supported"
    ),
    "another model": (_config(model_type="dpt"), "of model type 'dpt'"),
    "a backbone from elsewhere": (_config(backbone="facebook/dinov2-small"), "facebook/dinov2-small"),
    "more heads": (_config(backbone_config={"num_attention_heads": 8}), "num_attention_heads is 8.*has 1"),
    "other colours": (_processor(image_mean=[0.5, 0.5, 0.5]), r"image_mean is \[0\.5, 0\.5, 0\.5\]"),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), r"pytorch_model\.bin"
    ),
    "no neck": (_no_tensor("neck.convs"), r"no Depth Anything V2: 'neck\.convs\.0\.weight' is missing"),
    "no class token": (_no_tensor("mask_token"), r"lacks 1 .*mask_token"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_a_folder_of_something_else_is_refused(
    hugging_face: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(hugging_face, tmp_path / "folder"))
    damage(folder)
    with pytest.raises(CheckpointError) as refused:
        read_estimator(folder)
    assert re.search(message, str(refused.value))


def test_large_reads_features_where_upstream_does() -> None:
    from export.depth_anything import _layers_looked_at

    assert {n: _layers_looked_at(n) for n in (12, 24, 40)} == {
        12: [3, 6, 9, 12], 24: [5, 12, 18, 24], 40: [10, 20, 30, 40],
    }  # fmt: skip


def test_a_model_without_depth_takes_no_estimator(
    checkpoint_folder: Callable[[str], Path], pth: Path, tmp_path: Path
) -> None:
    begun: list[str] = []
    with pytest.raises(ConfigError, match="takes no depth"):
        export_bundle(checkpoint_folder("rgb_only"), tmp_path / "out", depth_estimator=pth, progress=begun.append)
    assert begun == [STEPS[0]]


def test_a_bad_estimator_is_found_before_the_long_work(
    checkpoint_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    begun: list[str] = []
    with pytest.raises(CheckpointError, match="no depth estimator at"):
        export_bundle(
            checkpoint_folder("resize"), tmp_path / "out", depth_estimator=tmp_path / "gone.pth",
            progress=begun.append,
        )  # fmt: skip
    assert begun == [STEPS[0]]
    assert not (tmp_path / "out").exists()
