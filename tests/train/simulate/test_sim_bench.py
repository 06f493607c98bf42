"""The sim bench: the same from its seeds, true to its labels, readable by `bench`, nothing of training in it."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.datasets import open_dataset
from edge_runtime.errors import ConfigError
from train.simulate.difficulty import difficulty
from train.simulate.seeds import BENCH_SEEDS, TRAINING_SEEDS, bench_seed, training_seed
from train.simulate.sim_bench import CUT, SETS, BenchMade, BenchPlan, read_entries, write_sim_bench
from train.simulate.slots import (
    DEPTH_RELATIONS,
    LOCATION_KINDS,
    SCENES,
    SIZES,
    SLOT_MAKERS,
    bench_lens,
    depth_slot,
    fill,
    location_slot,
    unseen_slot,
)
from train.simulator.assets import CORE_NOUNS
from train.simulator.errors import SceneImpossible, ShardInvalid
from train.simulator.render import Renderer
from train.simulator.scene import assets_of
from train.spatial.questions import NOVEL_PAIRS
from train.spatial.relations import KIND_OF

RASTER = (224, 168)
# What the seeds must come to. The first holds on any machine, the others where an OpenGL draws edges as Mesa does.
CUT_HASHES = {
    "scenes": "518b07aff95b9b3f7b05d54226fb8de22ea31341331bb4e6a55e4474601be44e",
    "questions": "4c3870bff4e2963ddc4176565e91c29456fe018dae9c8c1a05c47ed2f55fc5d2",
    "masks": "f3892d79537676783e7bb58c013181b6b2f440f624f83dcca00e92aabfeaf6f5",
}


@pytest.fixture(scope="module")
def renderer():
    with Renderer(assets_of(SCENES), width=RASTER[0], height=RASTER[1]) as renderer:
        yield renderer


def files_of(folder: Path) -> dict[str, str]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def masks_of(made: BenchMade):
    for split in made.summary["plan"]["counts"]:
        for entry in read_entries(made.out, split):
            yield split, entry, np.asarray(Image.open(made.out / split / entry["mask_path"])) > 0


def test_the_cut_is_what_it_was(cut: BenchMade) -> None:
    assert {name: cut.summary["hashes"][name] for name in CUT_HASHES} == CUT_HASHES


def test_the_cut_is_small_and_quick_enough_to_be_drawn(cut: BenchMade) -> None:
    assert sum(path.stat().st_size for path in cut.out.rglob("*") if path.is_file()) < 2**21
    assert sum(CUT.splits.values()) == 24


def test_bench_accuracy_reads_it_as_it_is(cut: BenchMade) -> None:
    dataset = open_dataset(cut.out, bar=False)
    assert {name: len(samples) for name, samples in dataset.splits.items()} == CUT.splits
    assert dataset.has_depth
    for sample in dataset.samples:
        view = sample.view(with_depth=True)
        assert view.rgb.shape[:2] == sample.mask_pixels().shape == RASTER[::-1]
        assert {"noun", "objects", "seed", "index", "relations", "intrinsics"} <= set(sample.extra)


def test_labels_point_where_they_say(cut: BenchMade) -> None:
    for split, entry, mask in masks_of(cut):
        height, width = mask.shape
        pixels = [(int(x * width), int(y * height)) for x, y in [entry["point"], *entry["objects"]]]
        assert mask[pixels[0][1], pixels[0][0]]
        hits = sum(mask[v, u] for u, v in pixels[1:])
        assert hits == (1 if entry["category"] == "location" else 0)
        assert len(entry["objects"]) >= 3
        assert (entry["noun"] is not None) == (entry["category"] == "location") or split == "Unseen"
        assert 1 <= entry["step"] <= 5


def test_depth_is_exact_and_beside_it_as_a_sensor_sees_it(cut: BenchMade) -> None:
    for entry in read_entries(cut.out, "Location"):
        stem = Path(entry["rgb_path"]).name
        exact, noisy = (np.asarray(Image.open(cut.out / "Location" / part / stem)) for part in ("depth", "depth_noisy"))
        assert exact.dtype == noisy.dtype == np.uint16
        assert (exact > 0).all()
        assert 0.002 < (noisy[exact < 6000] == 0).mean() < 0.5
        both = (noisy > 0) & (exact < 2000)
        assert 0 < np.abs(noisy[both].astype(int) - exact[both]).mean() < 50


def test_every_question_of_a_kept_back_combination_has_one(cut: BenchMade) -> None:
    for split, entry, _ in masks_of(cut):
        is_novel = any({relation.value for relation in pair} <= set(entry["relations"]) for pair in NOVEL_PAIRS)
        assert is_novel == (split == "Unseen"), entry["prompt"]


def test_labels_are_those_of_the_scene_drawn_again(cut: BenchMade, renderer) -> None:
    entry = read_entries(cut.out, "Location")[3]
    filled = fill(location_slot(3, bench_seed(0, 0)), renderer, RASTER)
    graph = filled.sample.graph
    assert (entry["index"], entry["prompt"]) == (filled.index, filled.question.prompt)
    shown = {graph.instance_mask[int(y * RASTER[1]), int(x * RASTER[0])] for x, y in entry["objects"]}
    assert shown == {obj.mask_value for obj in graph.objects}
    assert graph.camera.fx == pytest.approx(entry["intrinsics"]["fx"], abs=1e-4)


def test_two_workers_and_an_interruption_give_the_same_files(cut: BenchMade, tmp_path: Path) -> None:
    plan = replace(CUT, counts=(2, 1, 1))
    one = write_sim_bench(plan, tmp_path / "one")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sim_bench(plan, tmp_path / "two", on_progress=stop)
    assert not (tmp_path / "two").exists()
    two = write_sim_bench(plan, tmp_path / "two", workers=2)
    assert two.done is not None
    assert (two.done.made, two.done.reused) == (2, 2)
    assert files_of(one.out) == files_of(two.out)
    assert not list(tmp_path.glob(".*"))
    name = "Location/image/0001.png"
    assert files_of(one.out)[name] == files_of(cut.out)[name], "a question does not hang on how many others there are"


def test_a_finished_bench_is_opened_and_another_refused(cut: BenchMade, tmp_path: Path) -> None:
    again = write_sim_bench(CUT, cut.out)
    assert again.done is None
    assert again.summary == cut.summary
    with pytest.raises(ShardInvalid, match="another plan"):
        write_sim_bench(replace(CUT, bench=1), cut.out)
    (tmp_path / "other").mkdir()
    with pytest.raises(ShardInvalid, match="no sim bench"):
        write_sim_bench(CUT, tmp_path / "other")


def test_the_noisy_set_is_the_main_one_with_the_sensors_depth(cut: BenchMade, tmp_path: Path) -> None:
    noisy = write_sim_bench(replace(CUT, set_name="noisy", counts=(2, 0, 0)), tmp_path / "noisy")
    main, own = files_of(cut.out), files_of(noisy.out)
    for k in range(2):
        assert own[f"Location/depth/{k:04d}.png"] == main[f"Location/depth_noisy/{k:04d}.png"]
        assert own[f"Location/image/{k:04d}.png"] == main[f"Location/image/{k:04d}.png"]
        assert own[f"Location/mask/{k:04d}.png"] == main[f"Location/mask/{k:04d}.png"]
    assert not (noisy.out / "Location" / "depth_noisy").exists()


def test_the_depth_set_asks_by_distance(tmp_path: Path) -> None:
    made = write_sim_bench(replace(CUT, set_name="depth", counts=(8,)), tmp_path / "depth")
    kinds = Counter(entry["kind"] for entry in read_entries(made.out, "Depth"))
    assert kinds == {"near_far": 2, "front_behind": 2, "camera_distance": 2, "object_distance": 2}


def test_the_absent_set_asks_for_what_is_not_there(tmp_path: Path) -> None:
    made = write_sim_bench(replace(CUT, set_name="absent", counts=(4,)), tmp_path / "absent")
    for _, entry, mask in masks_of(made):
        assert entry["absent"]
        assert entry["point"] is None
        assert not mask.any()
    assert [bool(entry["relations"]) for entry in read_entries(made.out, "Absent")] == [False, True, False, True]
    assert all(sample.absent for sample in open_dataset(made.out, bar=False).samples)


# --- what the slots ask for -------------------------------------------------------------------------------


def test_every_noun_is_asked_for_and_kinds_come_in_the_engines_shares() -> None:
    slots = [location_slot(k, bench_seed(0, 0)) for k in range(400)]
    nouns, kinds = Counter(slot.noun for slot in slots), Counter(slot.kind for slot in slots)
    assert set(nouns) == set(CORE_NOUNS)
    assert min(nouns.values()) >= 8
    total = sum(LOCATION_KINDS.values())
    for kind, share in LOCATION_KINDS.items():
        assert abs(kinds[kind] - 400 * share / total) <= 3, kind
    own = Counter((slot.noun, slot.kind) for slot in slots)
    assert max(own.values()) <= 3, "a noun is asked for in many ways"


def test_a_kind_no_scene_offers_is_given_up_for_another(renderer) -> None:
    slot = replace(location_slot(3, bench_seed(0, 0)), kind="no such kind", insist=30)
    assert fill(slot, renderer, RASTER).question.target_id is not None


def test_a_question_no_scene_offers_is_refused_after_so_many(renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.simulate.slots.SCENES_PER_SLOT", 3)
    with pytest.raises(SceneImpossible, match="no scene of 3 offers question 0 of Depth"):
        fill(replace(depth_slot(0, bench_seed(0, 3)), kind="no such kind"), renderer, RASTER)


def test_kept_back_pairs_are_asked_for_in_turn() -> None:
    pairs = Counter(unseen_slot(k, bench_seed(0, 2)).relations for k in range(200))
    assert set(pairs) == set(NOVEL_PAIRS)
    assert max(pairs.values()) - min(pairs.values()) <= 1


def test_distances_are_asked_for_evenly() -> None:
    assert set(Counter(KIND_OF[relation] for relation in DEPTH_RELATIONS).values()) == {2}


def test_lenses_are_those_whose_pictures_the_bench_has() -> None:
    lenses = [bench_lens(bench_seed(0, 0), k) for k in range(60)]
    assert {(lens.width, lens.height) for lens in lenses} == set(SIZES)
    assert len({round(lens.focal_px) for lens in lenses}) > 10


def test_the_full_bench_has_the_promised_counts() -> None:
    assert BenchPlan().splits == {"Location": 400, "Placement": 400, "Unseen": 200}
    assert BenchPlan("noisy").splits == BenchPlan().splits
    assert (BenchPlan("depth").parts, BenchPlan("absent").parts) == (1000, 200)
    slots = BenchPlan().slots()
    assert len({(slot.split, slot.number) for slot in slots}) == 1000
    assert set(SETS) == {"main", "noisy", "depth", "absent"}


# --- seeds ------------------------------------------------------------------------------------------------


def test_bench_and_training_have_no_seed_in_common() -> None:
    assert TRAINING_SEEDS.stop <= BENCH_SEEDS.start
    seeds = [bench_seed(bench, split) for bench in range(20) for split in range(len(SLOT_MAKERS))]
    assert len(set(seeds)) == len(seeds)
    assert all(seed in BENCH_SEEDS for seed in [*seeds, bench_seed(999_999, 4)])
    with pytest.raises(ConfigError, match="from 0 to 999999"):
        bench_seed(1_000_000, 0)
    with pytest.raises(ConfigError, match="larger are a bench's"):
        training_seed(bench_seed(0, 0))
    assert training_seed(1) == 1


@pytest.mark.parametrize("first", [0, 1, 1000])
def test_nanos_trainer_draws_from_training_seeds(first: int) -> None:
    """Its three worlds, and the streams beside each: see train/nano/__main__.py and world.py."""
    from train.nano import __main__ as nano
    from train.nano import world

    steps = (0, nano._EVAL_SEED_STEP, nano._PICTURES_SEED_STEP)
    streams = (0, world._NOISE, world._QUESTIONS)
    assert all(first + 1 + step + extra in TRAINING_SEEDS for step in steps for extra in streams)


@pytest.mark.parametrize("counts", [(1, 2), (0, 0, 0), (1, -1, 1)])
def test_impossible_counts_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="Location, Placement, Unseen"):
        BenchPlan(counts=counts)


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="main, noisy, depth, absent"):
        BenchPlan("every")  # type: ignore[arg-type]


def part(**changes):
    entry = {"step": 1, "kind": "size", "noun": "mug"}
    return {"entry": entry, "objects": 5, "mask_share": 0.02, "centre_hit": False, "object_hits": 0.2, **changes}


def test_difficulty_is_counted() -> None:
    found = difficulty([part(), part(objects=4, mask_share=0.04), part(mask_share=0.01, centre_hit=True)])
    assert found["n"] == 3
    assert found["median_mask_share"] == 0.02
    assert found["scenes_with_5_or_more_objects"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["objects"] == {"4": 1, "5": 2}
    assert found["image_centre"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["random_object"] == 0.2
    assert (found["steps"], found["kinds"], found["nouns"]) == ({"1": 3}, {"size": 3}, {"mug": 3})


def test_the_summary_lies_in_the_folder(cut: BenchMade) -> None:
    assert json.loads((cut.out / "bench.json").read_text()) == cut.summary
    assert cut.summary["difficulty"]["Location"]["n"] == 10
