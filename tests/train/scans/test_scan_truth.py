"""Nothing that is said of a simulated scan is untrue: masks and the oracle's verdicts against every answer."""

import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from edge_runtime.parse import parse_points
from tests.train.scans.conftest import Written
from tests.train.scans.truth import Truth, wrong
from train.scans.asking import ask, question_maker
from train.scans.capture_files import find_captures
from train.scans.judging import Judged, Limits, judge
from train.scans.layout import Capture
from train.scans.shards import FORMS, make_shard
from train.scans.simulated import SimulatedScan, simulated_scans, write_scan
from train.scans.work import ShardPlan, frames_of, share_of
from train.simulate.seeds import QUESTION_STREAM, stream
from train.spatial.formats import TrainingSample, read_training

LIMITS = Limits()
POINT = re.compile(r"\((0\.\d+), (0\.\d+)\)")


@pytest.fixture(scope="module")
def samples(written: Written, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[TrainingSample]]:
    captures = share_of(find_captures(written.folders), (0, 1))
    plan = ShardPlan(captures, every=1, frames=frames_of(captures, 1, "z"))
    made = make_shard(plan, tmp_path_factory.mktemp("out"), workers=1)
    return {form: read_training(made.folder / f"{form}.json") for form in FORMS}


def faults_of(scan: SimulatedScan, capture: Capture, counts: Counter[str]) -> list[str]:
    """Everything untrue that the engine says of a scan, and supports that are not the real ones."""
    found = []
    for frame in scan.frames:
        truth, judged = Truth(frame), judge(capture.frame(frame.time_ns), LIMITS)
        found += wrong_supports(truth, judged)
        rng = stream(int(scan.name), frame.time_ns % 1000, QUESTION_STREAM)
        maker = question_maker(judged, LIMITS, rng)
        for dialogue in ask(maker, judged, rng).dialogues:
            counts[dialogue.form] += 1
            points = [(p.x, p.y) for p in parse_points(dialogue.answered).points]
            found += wrong(truth, dialogue, points)
            camera = judged.graph.camera
            for mark, name in zip(dialogue.marks, dialogue.things, strict=True):
                u, v = mark.target_px
                if truth.shown_at((u + 0.5) / camera.width, (v + 0.5) / camera.height) != name:
                    found.append(f"mark {mark.letter} is not on {name}")
    return found


def wrong_supports(truth: Truth, judged: Judged) -> list[str]:
    found = []
    for thing in judged.graph.objects:
        real = truth.graph.by_id(thing.id)
        if thing.support not in (None, real.support) or thing.container not in (None, real.container):
            found.append(f"{thing.id} on {thing.support} in {thing.container}, really {real.support}, {real.container}")
    return found


def test_no_answer_contradicts_the_simulator(written: Written) -> None:
    counts: Counter[str] = Counter()
    for scan in written.scans:
        capture = Capture(scan.name, written.folders / scan.name)
        assert faults_of(scan, capture, counts) == []
    assert counts["choice_qa"] >= 8
    assert counts["reasoning_template_qa"] >= 20
    assert counts["vacant_qa"] >= 8
    assert counts["visual_choice_qa"] >= 5


@pytest.mark.slow
def test_no_answer_contradicts_the_simulator_in_other_scans() -> None:
    counts: Counter[str] = Counter()
    for seed in range(500, 512):
        with tempfile.TemporaryDirectory() as folder:
            for scan in simulated_scans(seed, scans=2, frames=4, width=512):
                capture = Capture(scan.name, write_scan(scan, Path(folder)))
                assert faults_of(scan, capture, counts) == [], seed
    assert sum(counts.values()) > 1000


def test_every_step_and_point_of_the_files_is_on_a_thing_that_is_there(
    written: Written, samples: dict[str, list[TrainingSample]]
) -> None:
    """The written answers themselves: each [Position] step shows a thing of the noun it names."""
    truths = {f"{scan.name}_{f.time_ns}": Truth(f) for scan in written.scans for f in scan.frames}
    checked = 0
    for sample in samples["reasoning_template_qa"]:
        truth = truths[sample.id.rsplit("_", 1)[0]]
        for step in parse_points(sample.turns[0].answered).steps:
            if step.kind != "Position":
                continue
            x, y = map(float, POINT.findall(step.value)[0])
            shown = truth.shown_at(x, y)
            assert shown is not None, sample.turns[0]
            thing = truth.graph.by_id(shown)
            assert step.target.split()[-1] in (*thing.noun.split(), "object"), (step, shown)
            checked += 1
    assert checked >= 30


def test_two_views_point_at_one_thing(written: Written, samples: dict[str, list[TrainingSample]]) -> None:
    truths = {f"{scan.name}_{f.time_ns}": Truth(f) for scan in written.scans for f in scan.frames}
    assert len(samples["multi_view_qa"]) == 4
    for sample in samples["multi_view_qa"]:
        frames = [Path(name).stem for name in sample.images]
        texts = (sample.turns[0].asked, sample.turns[0].answered)
        shown = [
            truths[frame].shown_at(*map(float, POINT.findall(text)[0]))
            for frame, text in zip(frames, texts, strict=True)
        ]
        assert shown[0] is not None
        assert shown[0] == shown[1]
        assert frames[0] != frames[1]
