"""The optional asset package: absent, broken, and a stand-in package of our own with one textured board."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.simulator import scans
from train.simulator.errors import AssetPackageMissing, SceneImpossible
from train.simulator.render import Renderer
from train.simulator.sample import draw_sample
from train.simulator.scene import SceneConfig, assets_of, draw_scene

BOARD = """
v -0.05 -0.01 0
v 0.05 -0.01 0
v 0.05 -0.01 0.1
v -0.05 -0.01 0.1
v -0.05 0.01 0
v 0.05 0.01 0
v 0.05 0.01 0.1
v -0.05 0.01 0.1
vt 0.05 0.05
vt 0.95 0.05
vt 0.95 0.95
vt 0.05 0.95
f 1/1 2/2 3/3 4/4
f 6/1 5/2 8/3 7/4
f 1/1 5/1 6/2 2/2
f 4/4 3/3 7/3 8/4
f 1/1 4/4 8/4 5/1
f 2/2 6/2 7/3 3/3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "robosuite" / "models" / "assets"
    (folder / "objects" / "meshes").mkdir(parents=True)
    (folder / "textures").mkdir()
    (tmp_path / "robosuite" / "__init__.py").write_text("raise ImportError('nothing of it is imported')")
    (folder / "objects" / "meshes" / "cereal.obj").write_text(BOARD)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :, 0] = picture[32:, :, 2] = 230  # red above, blue below
    Image.fromarray(picture).save(folder / "textures" / "cereal.png")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    scans.scanned.cache_clear()
    yield folder
    scans.scanned.cache_clear()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    scans.scanned.cache_clear()
    with pytest.raises(AssetPackageMissing, match="pip install --no-deps robosuite"):
        scans.scanned("can")
    with pytest.raises(AssetPackageMissing, match="leave `scans` off"):
        assets_of(SceneConfig(nouns=("can", "mug"), scans=True))


def test_a_scan_keeps_its_size_and_texture_way_up(package: Path) -> None:
    box = scans.scanned("cereal box")
    assert np.allclose(box.size_m, np.array([0.1, 0.02, 0.1]) * scans.SCANS["cereal box"].scale)
    config = SceneConfig(nouns=("cereal box",), scans=True, min_objects=1, max_objects=1, lying_share=0.0)
    with Renderer(assets_of(config), width=200, height=150) as renderer:
        for index in range(8):
            sample = draw_sample(renderer, 4, index, config, (200, 150))
            (thing,) = sample.graph.objects
            assert thing.colour is None
            shown = sample.graph.instance_mask == thing.mask_value
            height = (sample.graph.world_xyz_m[..., 2] - thing.bottom_m)[shown] / thing.height_m
            red, _, blue = (sample.rgb[shown].astype(int) / 1.0).T
            assert (red > blue)[height > 0.6].mean() > 0.9
            assert (red > blue)[height < 0.4].mean() < 0.1


def test_a_broken_file_is_named(package: Path) -> None:
    (package / "objects" / "meshes" / "cereal.obj").write_text("v 1 2\nf 1/1 2/2 3/3\n")
    with pytest.raises(AssetPackageMissing, match=r"cereal\.obj"):
        scans.scanned("cereal box")
    with pytest.raises(AssetPackageMissing, match=r"can\.obj"):
        scans.scanned("can")


def test_scans_need_to_be_asked_for() -> None:
    with pytest.raises(SceneImpossible, match="cereal box"):
        SceneConfig(nouns=("cereal box",))
    with pytest.raises(KeyError, match="can"):
        scans.scanned("unicorn")
    scene = draw_scene(np.random.default_rng(0), SceneConfig(nouns=("can", "lemon")))
    assert all(posed.asset.instance != scans.SCAN_INSTANCE for posed in scene.objects)
