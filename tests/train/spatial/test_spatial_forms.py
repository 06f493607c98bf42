"""RefSpatial's training forms say what is true, and both layouts on disk read back as written."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from edge_runtime.parse import parse_points
from edge_runtime.prompt import POINT_SUFFIX
from tests.train.spatial.box_scenes import camera, graph, random_scene
from tests.train.spatial.oracle import Oracle
from train.spatial import formats
from train.spatial.formats import (
    BenchSample,
    TrainingSample,
    Turn,
    draw_marks,
    read_training,
    turn_of,
    turn_of_dialogue,
    write_bench,
    write_training,
    write_whole,
)
from train.spatial.forms import FORMS, FormMaker, Mark, across_views
from train.spatial.questions import QuestionMaker

SIZE = (96, 72)


@pytest.fixture(scope="module")
def makers():
    return [QuestionMaker(random_scene(seed, *SIZE), np.random.default_rng(seed)) for seed in range(30)]


def dialogues(makers, form):
    made = [FORMS[form](FormMaker(maker, np.random.default_rng(i))) for i, maker in enumerate(makers)]
    return [(maker, d) for maker, d in zip(makers, made, strict=True) if d is not None]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_can_be_made_in_most_scenes(makers, form):
    made = dialogues(makers, form)
    assert len(made) >= 20
    assert all(d.form == form for _, d in made)


def test_choices_have_one_right_answer(makers):
    for _, dialogue in dialogues(makers, "choice_qa"):
        options = dict(re.findall(r"([A-D])\. (the [a-z ]+?)(?= [A-D]\.|$)", dialogue.asked.split("? ", 1)[1]))
        letter, answer = dialogue.answered.split(". ")
        assert options[letter] == answer
        assert len(options) >= 2
        assert len(set(options.values())) == len(options)


def test_visual_choices_mark_objects_and_one_of_them_is_right(makers):
    for maker, dialogue in dialogues(makers, "visual_choice_qa"):
        shown = [maker.view.graph.instance_mask[m.target_px[1], m.target_px[0]] for m in dialogue.marks]
        assert min(shown) >= 1
        assert len(set(shown)) == len(shown) >= 2
        assert dialogue.answered in [m.letter for m in dialogue.marks]


def test_facts_are_true(makers):
    """Distances against the oracle; the yes-or-no ones with "taller than" against heights."""
    answers = set()
    for i, maker in enumerate(makers):
        for k in range(8):
            fact = FormMaker(maker, np.random.default_rng(100 * i + k)).fact()
            if fact is None:
                continue
            answers.add(fact.answered[:2])
            metres = re.fullmatch(r"About ([\d.]+) metres\.", fact.answered)
            if metres and fact.relations == ("distance_to_camera",):
                truths = [Oracle(maker.view.graph).from_camera(o) for o in maker.view.graph.objects]
                assert min(abs(t - float(metres[1])) for t in truths) <= 0.0051, fact.asked
    assert {"Ye", "No", "Ab"} <= answers


def test_a_thing_is_found_again_in_the_other_view():
    found = 0
    for seed in range(20):
        scene = random_scene(seed, *SIZE)
        other = graph(
            scene.objects, camera(scene.table.yaw_rad + 0.4, 55, 1.2, width=SIZE[0], height=SIZE[1]), scene.table
        )
        rng = np.random.default_rng(seed)
        first, second = QuestionMaker(scene, rng), QuestionMaker(other, rng)
        dialogue = across_views(first, second, rng)
        if dialogue is None:
            continue
        found += 1
        assert dialogue.views == 2
        assert shown_at(scene, dialogue.asked) == shown_at(other, dialogue.answered) >= 1
    assert found >= 15


def shown_at(scene, text):
    (point,) = parse_points(text).points
    height, width = scene.instance_mask.shape
    return scene.instance_mask[int(point.y * height), int(point.x * width)]


def test_training_json_reads_back_and_has_the_fields(tmp_path):
    samples = [
        TrainingSample("a", ("a.png",), ("a.png",), (Turn("where?", "[(0.1, 0.2)]"), Turn("and?", "No."))),
        TrainingSample("b", ("b.png",), (), (Turn("what?", "A. the mug"),)),
        TrainingSample("c", ("c.png", "d.png"), ("c.png", "d.png"), (Turn("where is it — now?", "[(0.5, 0.5)]"),)),
    ]
    path = tmp_path / "3D" / "choice_qa.json"
    write_training(path, samples)
    assert read_training(path) == samples
    first, second, third = json.loads(path.read_text(encoding="utf-8"))
    assert list(first) == ["id", "image", "depth", "conversations"]
    assert first["conversations"][0] == {"from": "human", "value": "<image> <depth>\nwhere?"}
    assert first["conversations"][2] == {"from": "human", "value": "and?"}
    assert "depth" not in second
    assert third["image"] == ["c.png", "d.png"]
    assert third["conversations"][0]["value"].count("<image> <depth>\n") == 2


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (TrainingSample("a", (), (), (Turn("q", "a"),)), "0 images"),
        (TrainingSample("a", ("i", "j"), ("i",), (Turn("q", "a"),)), "1 depths"),
        (TrainingSample("a", ("i",), (), ()), "0 turns"),
    ],
)
def test_impossible_samples_are_refused_and_leave_no_file(tmp_path, sample, why):
    with pytest.raises(ValueError, match=why):
        write_training(tmp_path / "x.json", [sample])
    assert list(tmp_path.iterdir()) == []


def test_double_ids_are_refused(tmp_path):
    sample = TrainingSample("same", ("i",), (), (Turn("q", "a"),))
    with pytest.raises(ValueError, match="same"):
        write_training(tmp_path / "x.json", [sample, sample])


@pytest.mark.parametrize(
    "entry",
    [{"id": "a", "image": "i"}, {"id": "a", "image": "i", "conversations": [{"from": "gpt", "value": "hello"}]}],
)
def test_other_json_is_refused_with_its_path(tmp_path, entry):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=r"x\.json"):
        read_training(path)


def test_turns_ask_for_points_only_where_points_are_the_answer(makers):
    question = makers[0].sample("location", 1)[0]
    assert turn_of(question) == Turn(f"{question.prompt} {POINT_SUFFIX}", question.answer)
    assert turn_of(question, with_reasoning=True).answered == question.reasoned_answer
    for form in FORMS:
        for _, dialogue in dialogues(makers[:8], form):
            turn = turn_of_dialogue(dialogue)
            assert turn.asked.endswith(POINT_SUFFIX) == bool(parse_points(turn.answered).points)


def bench_samples(maker, task, count=3):
    height, width = maker.view.graph.instance_mask.shape
    rgb = np.full((height, width, 3), 90, np.uint8)
    depth = np.full((height, width), 800, np.uint16)
    return [BenchSample(q, rgb, depth, "scene0") for q in maker.sample(task, count)]


def test_bench_layout_reads_back(tmp_path, makers):
    location = bench_samples(makers[0], "location")
    placement = [BenchSample(s.question, s.rgb) for s in bench_samples(makers[1], "placement")]
    write_bench(tmp_path / "bench", {"Location": location, "Placement": placement})
    assert sorted(p.name for p in (tmp_path / "bench").iterdir()) == ["Location", "Placement"]
    for split, samples in (("Location", location), ("Placement", placement)):
        folder = tmp_path / "bench" / split
        entries = json.loads((folder / "question.json").read_text(encoding="utf-8"))
        assert [e["id"] for e in entries] == list(range(len(samples)))
        for entry, sample in zip(entries, samples, strict=True):
            assert list(entry)[:8] == ["id", "object", "prompt", "suffix", "rgb_path", "mask_path", "category", "step"]
            assert (entry["prompt"], entry["object"]) == (sample.question.prompt, sample.question.object)
            assert np.array_equal(np.asarray(Image.open(folder / entry["mask_path"])) > 0, sample.question.mask)
            assert np.array_equal(np.asarray(Image.open(folder / entry["rgb_path"])), sample.rgb)
    assert len(list((tmp_path / "bench/Location/image").iterdir())) == 1, "samples of one picture share it"
    assert np.asarray(Image.open(tmp_path / "bench/Location/depth/scene0.png")).dtype == np.uint16
    assert not (tmp_path / "bench/Placement/depth").exists()


def test_a_bench_is_written_whole_or_not_at_all(tmp_path, makers, monkeypatch):
    samples = bench_samples(makers[0], "location")
    with pytest.raises(ValueError, match="Location, Placement, Unseen"):
        write_bench(tmp_path / "bench", {"Elsewhere": samples})

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "save_png", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_bench(tmp_path / "bench", {"Location": samples})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bench_is_left_alone(tmp_path, makers):
    (tmp_path / "bench").mkdir()
    with pytest.raises(FileExistsError, match="remove it"):
        write_bench(tmp_path / "bench", {"Location": bench_samples(makers[0], "location")})


def test_absent_objects_have_no_place_in_a_bench(tmp_path, makers):
    absent = next(q for q in (maker.absent() for maker in makers) if q is not None)
    sample = BenchSample(absent, np.zeros((*absent.mask.shape, 3), np.uint8))
    with pytest.raises(ValueError, match="not in the scene"):
        write_bench(tmp_path / "bench", {"Location": [sample]})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_marks_are_drawn_where_they_belong_and_the_picture_is_kept():
    rgb = np.zeros((120, 160, 3), np.uint8)
    marked = draw_marks(rgb, [Mark("A", (40, 60)), Mark("B", (120, 30))])
    assert not rgb.any()
    for u, v in ((40, 60), (120, 30)):
        assert marked[v - 4 : v + 5, u - 4 : u + 5].any()
    assert not marked[100:, :].any()
