"""What the pictures show is what the scene graph says, against geometry computed another way."""

import colorsys

import numpy as np
import pytest

from train.simulator.colours import COLOURS
from train.simulator.sample import MIN_VISIBLE, draw_sample
from train.spatial.scene_graph import ELSEWHERE, TABLE, TABLE_MASK

COMPACT = ("cube", "ball", "apple", "orange", "box", "can", "candle", "die", "soap", "sponge", "cupcake", "pear")


def rays(camera) -> np.ndarray:
    """World directions [H, W, 3] with unit z in the camera frame, pixel by pixel from the projection."""
    v, u = np.mgrid[: camera.height, : camera.width]
    local = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u, dtype=float)], -1)
    return local @ camera.world_from_camera[:3, :3].T


def test_table_depth_is_the_plane(samples) -> None:
    for sample in samples:
        graph = sample.graph
        on_table = graph.instance_mask == TABLE_MASK
        eye = graph.camera.world_from_camera[:3, 3]
        plane = (graph.table.centre_m[2] - eye[2]) / rays(graph.camera)[..., 2]
        error = np.abs(sample.depth_m - plane)[on_table]
        # Pixels on the rim may show the slab's side; nothing else may be off.
        assert np.quantile(error, 0.995) < 5e-4
        assert error.max() < 2.5e-3
        inside = np.abs(graph.table.to_table(graph.world_xyz_m[on_table][:, :2].astype(np.float64)))
        assert (inside <= graph.table.size_m / 2 + 3e-3).all()


def test_world_points_are_depth_along_the_rays(samples) -> None:
    for sample in samples[:10]:
        graph = sample.graph
        expected = rays(graph.camera) * sample.depth_m[..., None] + graph.camera.world_from_camera[:3, 3]
        assert np.abs(graph.world_xyz_m - expected).max() < 2e-5
        v, u = np.mgrid[: graph.camera.height, : graph.camera.width]
        seen = graph.camera.project(graph.world_xyz_m.astype(np.float64))
        assert np.abs(seen - np.stack([u, v], -1)).max() < 2e-3


def test_every_pixel_of_a_mask_lies_in_its_box(samples) -> None:
    for sample in samples:
        for obj in sample.graph.objects:
            world = sample.graph.world_xyz_m[sample.graph.instance_mask == obj.mask_value]
            own = np.abs((world - obj.centre_m) @ obj.world_from_object)
            assert (own <= obj.size_m / 2 + 1.5e-3).all(), obj.id


def test_centres_of_compact_things_project_onto_their_masks(samples) -> None:
    checked = 0
    for sample in samples:
        graph = sample.graph
        for obj in graph.objects:
            if obj.noun not in COMPACT:
                continue
            u, v = np.round(graph.camera.project(obj.centre_m)).astype(int)
            shown = graph.instance_mask[v, u]
            depth = graph.camera.to_camera(obj.centre_m)[2]
            assert shown == obj.mask_value or sample.depth_m[v, u] < depth, obj.id
            checked += shown == obj.mask_value
    assert checked > 50


def test_a_ball_has_the_depth_of_a_sphere(samples) -> None:
    errors = []
    for sample in samples:
        for ball in (obj for obj in sample.graph.objects if obj.noun == "ball"):
            eye, way = sample.graph.camera.world_from_camera[:3, 3], rays(sample.graph.camera)
            mask = sample.graph.instance_mask == ball.mask_value
            centre, radius = ball.centre_m - eye, ball.size_m.min() / 2
            along = way @ centre / (way**2).sum(-1)
            off = (way * along[..., None] - centre) ** 2
            inner = mask & (off.sum(-1) < (0.6 * radius) ** 2)
            hit = along - np.sqrt((radius**2 - off.sum(-1)).clip(0) / (way**2).sum(-1))
            errors += list(np.abs(hit - sample.depth_m)[inner])
    assert len(errors) > 100
    assert np.max(errors) < 1.5e-3  # facets and the raised stripe


def test_masks_hold_exactly_the_objects_and_all_are_visible(samples) -> None:
    for sample in samples:
        graph = sample.graph
        assert set(np.unique(graph.instance_mask)) - {ELSEWHERE, TABLE_MASK} == {o.mask_value for o in graph.objects}
        assert min(map(graph.visible_px, graph.objects)) >= MIN_VISIBLE * graph.instance_mask.size


def test_boxes_rotations_and_directions_are_proper(samples) -> None:
    for sample in samples:
        pose = sample.graph.camera.world_from_camera[:3, :3]
        assert np.allclose(pose @ pose.T, np.eye(3))
        assert np.linalg.det(pose) > 0
        for obj in sample.graph.objects:
            turn = obj.world_from_object
            assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
            assert np.linalg.det(turn) > 0
            assert obj.lying == (turn[2, 2] < np.cos(np.radians(40)))
            for direction in [*obj.parts.values(), *([] if obj.facing is None else [obj.facing])]:
                assert np.linalg.norm(direction) == pytest.approx(1.0)


def test_supports_and_containers_are_what_the_boxes_say(samples) -> None:
    stacked = contained = 0
    for sample in samples:
        graph = sample.graph
        for obj in graph.objects:
            if obj.support == TABLE:
                assert obj.container is None
                assert lowest_point(sample, obj) >= graph.table.centre_m[2] - 1e-3
                continue
            host = graph.by_id(obj.support)
            offset = np.abs((obj.centre_m - host.centre_m) @ host.world_from_object)
            assert (offset[:2] < host.size_m[:2] / 2).all(), "stands over its host"
            if obj.container is None:
                stacked += 1
                assert obj.bottom_m > host.top_m - 0.02
            else:
                contained += 1
                assert obj.container == host.id
                assert obj.bottom_m < host.top_m
                # The box of a tapered thing on its side is tilted, and its lowest corner is not part of the thing.
                assert host.bottom_m < (obj.centre_m[2] if obj.lying else obj.bottom_m)
    assert stacked >= 5
    assert contained >= 5


def lowest_point(sample, obj) -> float:
    return float(sample.graph.world_xyz_m[..., 2][sample.graph.instance_mask == obj.mask_value].min())


def test_colour_words_are_true_of_the_pixels(samples) -> None:
    wrong, judged = [], 0
    for sample in samples:
        for obj in sample.graph.objects:
            pixels = sample.rgb[sample.graph.instance_mask == obj.mask_value]
            if len(pixels) < 120:
                continue
            judged += 1
            wrong += [] if shows(pixels / 255.0, obj.colour) else [(obj.id, obj.colour, np.median(pixels, 0))]
    assert judged > 150
    assert len(wrong) <= 0.03 * judged, wrong


def shows(pixels: np.ndarray, word: str) -> bool:
    """Whether at least a third of the pixels have the word's hue (or greyness), whatever the light."""
    area = COLOURS[word]
    hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels[:: max(1, len(pixels) // 200)]])
    if area.saturation[1] < 0.2:
        return bool(np.mean(hsv[:, 1] < 0.30) > 0.34)
    middle = sum(area.hue_deg) / 2
    off = np.abs((hsv[:, 0] * 360 - middle + 180) % 360 - 180)
    return bool(np.mean((off < 16) & (hsv[:, 1] > 0.25)) > 0.34)


def test_scenes_are_not_easy(samples) -> None:
    counts = [len(sample.graph.objects) for sample in samples]
    shares = [g.visible_px(o) / g.instance_mask.size for g in (s.graph for s in samples) for o in g.objects]
    nouns = {obj.noun for sample in samples for obj in sample.graph.objects}
    assert np.mean(np.array(counts) >= 5) >= 0.80
    assert min(counts) >= 3
    assert max(counts) <= 10
    assert np.median(shares) <= 0.025
    assert len(nouns) >= 40
    assert any(obj.lying for sample in samples for obj in sample.graph.objects)
    repeated = [len({o.noun for o in s.graph.objects}) < len(s.graph.objects) for s in samples]
    assert np.mean(repeated) > 0.4


def test_the_same_seed_gives_the_same_bytes(renderer, samples) -> None:
    again = draw_sample(renderer, 1, 7, raster=(224, 224))
    first = samples[7]
    assert again.rgb.tobytes() == first.rgb.tobytes()
    assert again.depth_m.tobytes() == first.depth_m.tobytes()
    assert np.array_equal(again.graph.instance_mask, first.graph.instance_mask)
    assert not np.array_equal(draw_sample(renderer, 2, 7, raster=(224, 224)).rgb, first.rgb)


def test_pictures_have_contrast_and_are_not_clipped(samples) -> None:
    for sample in samples:
        assert 25 < sample.rgb.mean() < 230
        assert sample.rgb.std() > 12
        assert np.mean(sample.rgb == 255) < 0.30


def test_the_room_is_in_the_depth(samples) -> None:
    """Floor, walls and clutter are measured like the table; the floor is the plane z = 0."""
    floor = 0
    for sample in samples:
        height = sample.graph.world_xyz_m[..., 2]
        assert height.min() > -0.01
        room = sample.graph.instance_mask == ELSEWHERE
        assert (sample.depth_m[room] < 7.9).mean() > 0.95
        floor += (np.abs(height[room]) < 2e-3).sum()
    assert floor > 1000
