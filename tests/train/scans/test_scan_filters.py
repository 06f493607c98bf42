"""Which boxes may be asked about, and why not the others: names, and faults made on purpose."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.train.scans.conftest import Written
from train.scans.errors import FrameFaulty, ScanInvalid
from train.scans.judging import Limits, judge
from train.scans.layout import Capture
from train.scans.naming import colour_of, name_of
from train.spatial.lexicon import UNNAMED, Category


@pytest.mark.parametrize(
    ("category", "caption", "noun", "colour", "fault"),
    [
        ("mug", "A white ceramic mug with a handle.", "mug", "white", None),
        ("coffee_table", "a low wooden table", "coffee table", None, None),
        ("object", "A grey stapler on a desk", "stapler", "gray", None),
        ("mug", "a black and white mug", "mug", None, None),
        ("mug", "a white mug with a red handle", "mug", None, None),
        ("mug", "a light blue mug", "mug", None, None),
        ("mug", "a mug on a red table", "mug", None, None),
        ("mug", None, "mug", None, None),
        ("glasses", None, "glasses", None, None),
        ("wall", None, None, None, "structure"),
        ("door_frame", "a white door frame", None, None, "structure"),
        ("object", None, None, None, "no_name"),
        ("", "", None, None, "no_name"),
        ("cup or mug", None, None, None, "ambiguous_wording"),
        ("books", None, None, None, "ambiguous_wording"),
        ("mug", "a mug and a plate", None, None, "ambiguous_wording"),
        ("object", "a mug and a plate", None, None, "ambiguous_wording"),
        ("mug", "a red bowl", None, None, "ambiguous_wording"),
        ("thing 3", None, None, None, "ambiguous_wording"),
    ],
)
def test_names(category: str, caption: str | None, noun: str | None, colour: str | None, fault: str | None) -> None:
    name = name_of(category, caption)
    assert (name.noun, name.colour, name.fault) == (noun, colour, fault)


def test_what_nobody_named_might_be_anything() -> None:
    assert Category("mug").fits(UNNAMED, None) is None
    assert Category(None).fits(UNNAMED, None) is True
    assert colour_of("a red and green apple") is None


class Changed:
    """A copy of the first scan, to be damaged."""

    def __init__(self, written: Written, folder: Path) -> None:
        self.name = written.scans[0].name
        self.root = folder / self.name
        self.time = written.scans[0].frames[0].time_ns
        shutil.copytree(written.folders / self.name, self.root)

    def edit(self, name: str, change) -> None:
        path = self.root / name.format(t=self.time)
        value = json.loads(path.read_text())
        path.write_text(json.dumps(change(value)))

    def edit_world(self, box_id: str, **values) -> None:
        def change(entries):
            return [{**entry, **values} if entry["id"] == box_id else entry for entry in entries]

        self.edit("world.gt/instances.json", change)

    def depth(self, change) -> None:
        path = self.root / f"{self.time}.gt" / "depth.png"
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert depth is not None
        cv2.imwrite(str(path), change(depth.astype(np.float64)).astype(np.uint16))

    def judged(self):
        return judge(self.frame(), Limits())

    def frame(self):
        return Capture(self.name, self.root).frame(self.time)


@pytest.fixture
def changed(written: Written, tmp_path: Path) -> Changed:
    return Changed(written, tmp_path)


def target(changed: Changed):
    """A thing that may be asked about as it is."""
    graph = changed.judged().graph
    return max((o for o in graph.objects if graph.visible_px(o)), key=graph.visible_px)


def rows_of(changed: Changed, thing):
    frame = changed.frame()
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * thing.size_m / 2
    px = frame.camera.project(corners @ thing.world_from_object.T + thing.centre_m)
    low, high = np.maximum(px.min(axis=0).astype(int), 0), px.max(axis=0).astype(int) + 1
    return slice(low[1], high[1]), slice(low[0], high[0])


@pytest.mark.parametrize(
    ("fault", "values"),
    [
        ("no_name", {"category": "object", "caption": None}),
        ("ambiguous_wording", {"category": "mugs", "caption": None}),
        ("structure", {"category": "wall"}),
        ("box_invalid", {"scale": [0.1, -0.1, 0.1]}),
        ("box_invalid", {"scale": [0.1, float("nan"), 0.1]}),
        ("box_invalid", {"R": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}),
        ("out_of_view", {"position": [900.0, 0.0, 0.0]}),
    ],
)
def test_a_box_with_a_fault_is_counted_and_never_shown(changed: Changed, fault: str, values: dict[str, Any]) -> None:
    thing, before = target(changed), changed.judged()
    changed.edit_world(thing.id, **values)

    def relabelled(entries):
        return [{**e, "category": values.get("category", e["category"])} if e["id"] == thing.id else e for e in entries]

    changed.edit("{t}.wide/instances.json", relabelled)
    after = changed.judged()
    assert after.filtered[fault] == before.filtered[fault] + 1
    left = [o for o in after.graph.objects if o.id == thing.id]
    assert all(after.graph.visible_px(o) == 0 for o in left)
    assert bool(left) == (fault in ("no_name", "ambiguous_wording")), "unnamed things stay to spoil, the rest leaves"
    assert after.kept == before.kept - 1


def test_what_is_covered_or_unmeasured_is_not_asked_about(changed: Changed) -> None:
    thing = target(changed)
    rows, columns = rows_of(changed, thing)

    def nearer(depth):
        depth[rows, columns] = 200
        return depth

    changed.depth(nearer)
    assert changed.judged().filtered["occluded"] >= 1

    def holes(depth):
        depth[rows, columns] = 0
        return depth

    changed.depth(holes)
    judged = changed.judged()
    assert judged.filtered["depth_holes"] >= 1
    assert judged.graph.visible_px(judged.graph.by_id(thing.id)) == 0


def test_a_box_without_its_thing_is_not_visible(changed: Changed) -> None:
    """The box hangs in the air, where depth shows what is behind it."""
    thing = target(changed)
    position = next(
        e for e in json.loads((changed.root / "world.gt/instances.json").read_text()) if e["id"] == thing.id
    )["position"]
    changed.edit_world(thing.id, position=[position[0], position[1], position[2] + 0.15])
    assert changed.judged().filtered["not_visible"] + changed.judged().filtered["truncated"] >= 1


def test_one_thing_labelled_twice_is_asked_about_by_neither_name(changed: Changed) -> None:
    thing = target(changed)

    def doubled(entries):
        return entries + [{**e, "id": "again"} for e in entries if e["id"] == thing.id]

    changed.edit("world.gt/instances.json", doubled)
    changed.edit("{t}.wide/instances.json", doubled)
    assert changed.judged().filtered["duplicate"] == 2


def test_limits_decide_what_is_tiny_and_truncated(changed: Changed) -> None:
    frame = changed.frame()
    assert judge(frame, Limits()).filtered["tiny"] == 0
    with pytest.raises(FrameFaulty, match="few_objects"):
        judge(frame, Limits(min_target_share=0.5))
    with pytest.raises(FrameFaulty, match="few_objects"):
        judge(frame, Limits(max_cut_share=-1.0))


@pytest.mark.parametrize(
    ("fault", "harm"),
    [
        ("missing_file", lambda c: (c.root / f"{c.time}.gt" / "RT.json").unlink()),
        ("missing_file", lambda c: (c.root / f"{c.time}.gt" / "depth.png").unlink()),
        ("damaged", lambda c: (c.root / f"{c.time}.wide" / "image.png").write_bytes(b"\x89PNG no")),
        ("damaged", lambda c: c.edit("{t}.gt/RT.json", lambda m: m[:2])),
        ("damaged", lambda c: c.edit("{t}.gt/RT.json", lambda m: (2 * np.array(m)).tolist())),
        ("damaged", lambda c: c.edit("{t}.wide/instances.json", lambda e: [{"id": "x"}])),
        ("cameras_differ", lambda c: c.edit("{t}.gt/depth/K.json", lambda k: (1.1 * np.array(k)).tolist())),
    ],
)
def test_frames_that_cannot_be_used(changed: Changed, fault: str, harm) -> None:
    harm(changed)
    with pytest.raises(FrameFaulty) as raised:
        changed.frame()
    assert raised.value.fault == fault


def test_a_world_whose_z_is_not_up_is_refused_with_the_flag(changed: Changed) -> None:
    y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])

    def turned(entries):
        return [
            {**e, "position": (y_up @ e["position"]).tolist(), "R": (y_up @ np.array(e["R"])).tolist()} for e in entries
        ]

    before = changed.judged()
    changed.edit("world.gt/instances.json", turned)
    lean = [{"id": "x", "category": "mug", "position": [0, 0, 0], "scale": [1, 1, 1],
             "R": [[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]]}]  # fmt: skip
    pose = np.eye(4)
    pose[:3, :3] = y_up
    changed.edit("{t}.gt/RT.json", lambda m: (pose @ np.array(m)).tolist())
    again = judge(Capture(changed.name, changed.root, "y").frame(changed.time), Limits())
    assert again.kept == before.kept
    changed.edit("world.gt/instances.json", lambda _: lean)
    with pytest.raises(ScanInvalid, match="try --up y"):
        Capture(changed.name, changed.root)
