"""OpenGL that is not there, both ways of rendering, and the contact sheet."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.simulator import render
from train.simulator.contact_sheet import depth_picture, mask_picture
from train.simulator.errors import GraphicsMissing
from train.simulator.render import FINE, Renderer
from train.simulator.sample import draw_sample
from train.simulator.scene import SceneConfig

ROOT = Path(__file__).resolve().parents[3]
PAIR = SceneConfig(nouns=("mug", "ball", "book"))


def test_missing_gl_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(render, "GL_LIBRARIES", {"egl": "libNoEGL.so.1", "osmesa": "libNoOSMesa.so.8"})
    monkeypatch.setattr(render, "_forget_gl", lambda: None)
    with pytest.raises(GraphicsMissing, match=r"libNoEGL.*libNoOSMesa") as caught:
        render.open_gl(32, 32)
    assert "apt-get install libegl1 libgl1-mesa-dri" in str(caught.value)
    assert "libosmesa6" in str(caught.value)


def test_missing_mujoco_names_the_pip_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GraphicsMissing, match=r"pip install 'roborefer-edge\[train\]'"):
        render.open_gl(32, 32)


def test_osmesa_takes_over_where_egl_is_missing(tmp_path: Path) -> None:
    """In a process of its own, since a process keeps the first library it found."""
    program = f"""
import ctypes, sys
sys.path.insert(0, {str(ROOT)!r})
from train.simulator import render
render.GL_LIBRARIES["egl"] = "libNoEGL.so.1"
try:
    ctypes.CDLL("libOSMesa.so.8")
except OSError:
    print("absent"); sys.exit(0)
import numpy as np
from train.simulator.assets import library
from train.simulator.sample import draw_sample
from train.simulator.scene import SceneConfig
with render.Renderer(library(("mug", "ball", "book")), width=96, height=96) as renderer:
    sample = draw_sample(renderer, 0, 0, SceneConfig(nouns=("mug", "ball", "book")), (96, 96))
    np.savez({str(tmp_path / "osmesa.npz")!r}, depth=sample.depth_m, mask=sample.graph.instance_mask)
    print(renderer.backend)
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120, env=environment
    )
    if done.stdout.strip() == "absent":
        pytest.skip("libosmesa6 is not installed")
    assert done.stdout.strip() == "osmesa", done.stderr
    with Renderer(render_library(), width=96, height=96) as renderer:
        egl = draw_sample(renderer, 0, 0, PAIR, (96, 96))
    with np.load(tmp_path / "osmesa.npz") as other:
        same = other["mask"] == egl.graph.instance_mask
        assert same.mean() > 0.995
        assert np.median(np.abs(other["depth"] - egl.depth_m)) < 1e-4


def render_library():
    from train.simulator.assets import library

    return library(PAIR.nouns)


def test_fine_pictures_have_the_same_truth_and_shadows() -> None:
    with Renderer(render_library(), width=160, height=120) as fast:
        plain = draw_sample(fast, 3, 0, PAIR, (160, 120))
    with Renderer(render_library(), width=160, height=120, quality=FINE) as fine:
        good = draw_sample(fine, 3, 0, PAIR, (160, 120))
    assert np.mean(plain.graph.instance_mask == good.graph.instance_mask) > 0.99
    same = plain.graph.instance_mask == good.graph.instance_mask
    assert np.median(np.abs(plain.depth_m - good.depth_m)[same]) < 1e-3
    table = (plain.graph.instance_mask == 0) & same
    darker = plain.rgb[table].astype(int).sum(1) - good.rgb[table].astype(int).sum(1)
    assert np.mean(darker > 60) > 0.005, "somewhere on the table lies a shadow"
    labels = set(np.unique(good.graph.instance_mask))
    assert labels <= {-1, 0, *(obj.mask_value for obj in good.graph.objects)}, "no blended labels at edges"


def test_a_picture_larger_than_the_renderer_is_refused(renderer) -> None:
    with pytest.raises(ValueError, match="640x480 picture"):
        draw_sample(renderer, 0, 0, raster=(640, 480))


def test_closing_twice_is_fine() -> None:
    renderer = Renderer(render_library(), width=32, height=32)
    renderer.close()
    renderer.close()


def test_thumbnails_show_near_bright_holes_black_and_objects_apart() -> None:
    depth = np.array([[0.5, 1.0, np.nan]], np.float32)
    picture = depth_picture(depth, 0.5, 1.0)
    assert picture[0, 0].sum() > picture[0, 1].sum()
    assert not picture[0, 2].any()
    assert len(np.unique(mask_picture(np.arange(-1, 11, dtype=np.int32)[None])[0], axis=0)) == 12


def test_the_contact_sheet_command_writes_a_page(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    command = [sys.executable, "-m", "train.simulator.contact_sheet", str(out), "--seed", "1", "--count", "2"]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)
    with Image.open(out) as page:
        assert page.size[0] > 2000
