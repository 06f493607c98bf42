"""Camera numbers: the K.json format, and transforms that really are rigid."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.errors import CalibrationError, StorageError
from hardware.geometry import DistortionModel, Extrinsics, Intrinsics, read_intrinsics, write_intrinsics

K: dict[str, Any] = {"fx": 613.2, "fy": 613.4, "cx": 319.9, "cy": 239.2, "width": 640, "height": 480}


def test_k_json_keeps_every_number(tmp_path: Path) -> None:
    camera = Intrinsics(
        613.2041, 613.4187, 319.94, 239.18, 640, 480, DistortionModel.KANNALA_BRANDT4, (0.1, -0.2, 3e-3, 4e-4, 0.05)
    )
    write_intrinsics(tmp_path / "K.json", camera)
    assert read_intrinsics(tmp_path / "K.json") == camera
    assert [path.name for path in tmp_path.iterdir()] == ["K.json"]
    names = list(json.loads((tmp_path / "K.json").read_text()))
    assert names == ["fx", "fy", "cx", "cy", "width", "height", "model", "coeffs"]


def test_model_and_coefficients_may_be_left_out() -> None:
    camera = Intrinsics.from_json(K)
    assert camera.model is DistortionModel.NONE
    assert camera.is_pinhole


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"fx": 0}, "focal", id="no focal length"),
        pytest.param({"fy": -613.0}, "focal", id="negative focal length"),
        pytest.param({"fx": 5e-324}, "focal", id="focal length of no lens"),
        pytest.param({"cx": 10**400}, "cx is a number of at most", id="beyond any float"),
        pytest.param({"width": 10**400}, "width is a number of at most", id="wider than any float"),
        pytest.param({"cx": math.nan}, "finite", id="not finite"),
        pytest.param({"width": 640.5}, "whole number", id="half a pixel"),
        pytest.param({"width": 0}, "positive size", id="no pixels"),
        pytest.param({"fx": "613"}, "fx is a number", id="text"),
        pytest.param({"fx": True}, "fx is a number", id="truth value"),
        pytest.param({"coeffs": [0, 0, 0, 0]}, "list of 5", id="four coefficients"),
        pytest.param({"coeffs": 0}, "list of 5", id="one coefficient"),
        pytest.param({"model": "fisheye"}, "known are none, modified_brown_conrady", id="unknown model"),
        pytest.param({"ppx": 1.0}, "unknown names ppx", id="name of the SDK"),
    ],
)
def test_wrong_numbers_are_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "K.json"
    path.write_text(json.dumps(K | change))
    with pytest.raises(CalibrationError, match=says) as caught:
        read_intrinsics(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "K.json"),
        ("[1]", "an object"),
        ('{"fx": 1}', "lack cx, cy, fy, height, width"),
        ("\udcff", "K.json"),
        ("[" * 99_999, "K.json"),
    ],
    ids=["not JSON", "a list", "names missing", "not UTF-8", "too deep"],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "K.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(CalibrationError, match=says):
        read_intrinsics(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot read intrinsics from .*none\.json"):
        read_intrinsics(tmp_path / "none.json")


def test_only_polynomial_models_are_a_pinhole_at_zero() -> None:
    pinhole = {model.value: Intrinsics(600, 600, 320, 240, 640, 480, model).is_pinhole for model in DistortionModel}
    assert pinhole.pop("ftheta") is False
    assert pinhole.pop("kannala_brandt4") is False
    assert set(pinhole.values()) == {True}


def test_inverse_takes_points_back() -> None:
    turn = 0.3
    transform = Extrinsics(
        ((math.cos(turn), 0, math.sin(turn)), (0, 1, 0), (-math.sin(turn), 0, math.cos(turn))), (0.015, -0.001, 0.002)
    )
    there_and_back = transform.inverse().matrix() @ transform.matrix()
    np.testing.assert_allclose(there_and_back, np.eye(4), atol=1e-15)
    assert not transform.is_identity
    assert Extrinsics().is_identity


@pytest.mark.parametrize(
    "matrix",
    [
        pytest.param(np.eye(3), id="3x3"),
        pytest.param(np.diag([2.0, 1, 1, 1]), id="stretched"),
        pytest.param(np.diag([-1.0, 1, 1, 1]), id="mirrored"),
        pytest.param(np.full((4, 4), np.nan), id="not a number"),
        pytest.param(np.diag([1e200, 1, 1, 1]), id="products overflow"),
        pytest.param([[1, 0, 0, 1e308], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], id="out of this world"),
        pytest.param([[1, 0, 0, 10**400], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], id="beyond any float"),
        pytest.param({"rotation": 1}, id="an object"),
        pytest.param([[1, 2], ["a"]], id="ragged"),
        pytest.param(np.eye(4)[::-1], id="rows in the wrong order"),
    ],
)
def test_what_is_not_rigid_is_refused(matrix: Any) -> None:
    with pytest.raises(ValueError):
        Extrinsics.from_matrix(matrix)


def test_a_replay_folders_file_gives_its_rgb_camera(tmp_path: Path) -> None:
    (tmp_path / "intrinsics.json").write_text(
        json.dumps({"rgb": K, "depth": {**K, "fx": 390.0}, "depth_unit_m": 0.001})
    )
    assert read_intrinsics(tmp_path / "intrinsics.json") == Intrinsics.from_json(K)


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "K.json").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*K\.json"):
        write_intrinsics(tmp_path / "K.json", Intrinsics.from_json(K))
    assert [path.name for path in tmp_path.iterdir()] == ["K.json"]
