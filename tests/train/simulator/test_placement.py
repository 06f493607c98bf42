"""Nothing touches anything, and everything stays where it is: footprints and resting poses against oracles."""

import mujoco
import numpy as np
import pytest

from train.simulator.assets import CORE_NOUNS, asset
from train.simulator.errors import SceneImpossible
from train.simulator.meshes import Mesh
from train.simulator.placement import Footprint, apart
from train.simulator.scene import SceneConfig, draw_scene
from train.simulator.surroundings import HELD_OUT_TEXTURES, TRAIN_TEXTURES
from train.simulator.viewpoint import LENSES, draw_camera, look_at
from train.spatial.scene_graph import TABLE


def winding(points: np.ndarray, mesh: Mesh) -> np.ndarray:
    """How often a closed surface goes round each point [P]: 0 outside, 1 or more inside (van Oosterom-Strackee)."""
    a, b, c = (mesh.vertices_m[mesh.faces[:, k]][None] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    det = np.einsum("pfi,pfi->pf", a, np.cross(b, c))
    dot = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return np.arctan2(det, dot).sum(1) / (2 * np.pi)


def world_mesh(posed) -> Mesh:
    mesh = posed.asset.mesh
    return Mesh(mesh.vertices_m @ posed.rotation.T * posed.scale + posed.centre_m, mesh.faces)


def test_no_object_enters_another_or_the_table() -> None:
    pairs = 0
    for seed in range(14):
        scene = draw_scene(np.random.default_rng(seed))
        meshes = [world_mesh(posed) for posed in scene.objects]
        for mesh in meshes:
            assert mesh.vertices_m[:, 2].min() >= scene.table.centre_m[2]
        for i, a in enumerate(meshes):
            for j, b in enumerate(meshes):
                low, high = b.vertices_m.min(0), b.vertices_m.max(0)
                near = a.vertices_m[((a.vertices_m > low) & (a.vertices_m < high)).all(1)][:150]
                if i != j and len(near):
                    pairs += 1
                    assert np.abs(winding(near, b)).max() < 0.5, (seed, scene.objects[i].id, scene.objects[j].id)
    assert pairs > 10


def test_the_winding_oracle_sees_an_overlap() -> None:
    cube = asset("cube", 0).mesh
    assert winding(np.zeros((1, 3)), cube)[0] == pytest.approx(1.0)
    assert winding(np.full((1, 3), 0.2), cube)[0] == pytest.approx(0.0, abs=1e-9)


def random_footprint(rng) -> Footprint:
    half = rng.uniform(0.01, 0.08, 2)
    round_ = bool(rng.random() < 0.4)
    return Footprint(rng.uniform(-0.12, 0.12, 2), np.full(2, half[0]) if round_ else half, rng.uniform(-4, 4), round_)


def holds(footprint: Footprint, points: np.ndarray) -> np.ndarray:
    own = (points - footprint.centre_m) @ footprint.axes.T
    if footprint.round:
        return np.hypot(*own.T) <= footprint.half_m[0]
    return (np.abs(own) <= footprint.half_m).all(1)


def test_apart_agrees_with_points_thrown_at_both() -> None:
    rng = np.random.default_rng(5)
    points = rng.uniform(-0.25, 0.25, (60_000, 2))
    separated = 0
    for _ in range(200):
        a, b = random_footprint(rng), random_footprint(rng)
        shared = (holds(a, points) & holds(b, points)).any()
        if apart(a, b, 0.0):
            separated += 1
            assert not shared
        elif not (a.round or b.round):  # exact for two rectangles; safe but not exact for discs near corners
            grown = Footprint(b.centre_m, b.half_m + 0.006, b.yaw_rad, b.round)
            assert (
                holds(Footprint(a.centre_m, a.half_m + 0.006, a.yaw_rad, False), points) & holds(grown, points)
            ).any()
    assert 40 < separated < 190


def test_resting_poses_stay_in_a_physics_run() -> None:
    """The convex hull of each instance, let go in its pose on a plane, stays at its height for a third of a second."""
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.002
    floor = spec.worldbody.add_geom()
    floor.type, floor.size = mujoco.mjtGeom.mjGEOM_PLANE, [50, 50, 1]
    poses = [(noun, k) for noun in CORE_NOUNS for k in range(len(asset(noun, 1).rests))]
    for place, (noun, k) in enumerate(poses):
        item = asset(noun, 1)
        mesh = spec.add_mesh()
        mesh.name = f"{noun}{k}"
        world = item.mesh.vertices_m @ item.rests[k].rotation.T
        mesh.uservert, mesh.userface = world.ravel(), item.mesh.faces.ravel()
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        body = spec.worldbody.add_body(name=mesh.name, pos=[place % 10, place // 10, -item.rests[k].bottom_m + 2e-4])
        body.add_freejoint()
        geom = body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh.name)
        geom.condim, geom.friction = 6, [1.0, 0.02, 0.005]
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    before = data.xipos[1:, 2].copy()
    mujoco.mj_step(model, data, nstep=160)
    sunk = {
        f"{noun}/{k}": round(1e3 * (b - a), 1) for (noun, k), b, a in zip(poses, before, data.xipos[1:, 2], strict=True)
    }
    assert {name: mm for name, mm in sunk.items() if abs(mm) > 4.0} == {}


def test_hosts_carry_what_says_it_stands_on_them() -> None:
    for seed in range(30):
        scene = draw_scene(np.random.default_rng(seed))
        by_id = {posed.id: posed for posed in scene.objects}
        assert len(by_id) == len(scene.objects)
        for posed in scene.objects:
            if posed.support != TABLE:
                host = by_id[posed.support]
                assert host.upright
                assert host.asset.platform is not None
                assert (posed.container == host.id) == host.asset.platform.inside
                assert np.hypot(*(posed.footprint.centre_m - host.centre_m[:2])) < host.footprint.reach_m


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(SceneImpossible, match="unicorn"):
        SceneConfig(nouns=("unicorn",))
    with pytest.raises(SceneImpossible, match="5 to 4"):
        SceneConfig(min_objects=5, max_objects=4)
    with pytest.raises(SceneImpossible, match="tries"):
        draw_scene(np.random.default_rng(0), SceneConfig(nouns=("tray",), min_objects=30, max_objects=30))


def test_nouns_and_held_out_are_obeyed() -> None:
    config = SceneConfig(nouns=("mug", "apple", "book", "ball"), held_out=True)
    scene = draw_scene(np.random.default_rng(4), config)
    assert {posed.asset.noun for posed in scene.objects} <= set(config.nouns)
    assert all(posed.asset.held_out for posed in scene.objects)
    assert scene.surroundings.table_solid.texture in HELD_OUT_TEXTURES
    assert not set(HELD_OUT_TEXTURES) & set(TRAIN_TEXTURES)


def test_the_camera_has_everything_in_view_and_is_upright() -> None:
    rng = np.random.default_rng(8)
    elevations = []
    for seed in range(25):
        scene = draw_scene(np.random.default_rng(seed))
        lens = LENSES[seed % len(LENSES)]
        camera = draw_camera(rng, scene, lens)
        assert (camera.width, camera.height) == (lens.width, lens.height)
        pixels = camera.project(np.array([posed.centre_m for posed in scene.objects]))
        assert (pixels > 0).all()
        assert (pixels < [camera.width, camera.height]).all()
        pose = camera.world_from_camera
        assert pose[2, 1] < 0, "the picture's down is down"
        elevations.append(np.degrees(np.arcsin(-pose[2, 2])))
    assert 28 < min(elevations) < 45 < max(elevations) < 72


def test_a_squeezed_raster_sees_the_same_directions() -> None:
    scene = draw_scene(np.random.default_rng(1))
    full = draw_camera(np.random.default_rng(2), scene, LENSES[0])
    small = draw_camera(np.random.default_rng(2), scene, LENSES[0], (224, 224))
    points = np.array([posed.centre_m for posed in scene.objects])
    a = (full.project(points) + 0.5) / [full.width, full.height]
    b = (small.project(points) + 0.5) / [224, 224]
    assert np.abs(a - b).max() < 1e-9


def test_look_at_puts_the_target_in_the_middle() -> None:
    pose = look_at(np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.1, 0.7]))
    target = (np.array([0.2, 0.1, 0.7]) - pose[:3, 3]) @ pose[:3, :3]
    assert np.allclose(target[:2], 0)
    assert target[2] > 0
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
