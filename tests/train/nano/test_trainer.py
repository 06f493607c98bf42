"""Training goes on exactly where it stopped, learns what can be learnt in seconds, and refuses foreign weights."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edge_runtime.errors import CheckpointError
from tests.train.nano.boxes import LABELS, BoxWorld, box_checkpoint, box_scenes
from train.nano.network import Network
from train.nano.optimiser import Optimiser, Rates, rate_share
from train.nano.records import NanoScene
from train.nano.shards import SceneSet, render, write_shard
from train.nano.stages import STAGES, Stage, copy_rgb_to_depth, learning_names, smoke_stages
from train.nano.trainer import Budget, Trainer, read_state, write_state

STAGES_HERE = smoke_stages(STAGES)


def network(dtype: torch.dtype = torch.float32) -> Network:
    checkpoint = box_checkpoint()
    torch.manual_seed(0)
    return Network(checkpoint, LABELS).to(dtype)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SceneSet:
    return box_scenes(tmp_path_factory.mktemp("boxes") / "train", 40)


def ticking() -> Callable[[], float]:
    """A clock by which every look takes a second, so that a minute is a fixed number of steps."""
    return itertools.count().__next__


def after(times: int) -> Callable[[], bool]:
    counter = itertools.count()
    return lambda: next(counter) >= times


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stopped_training_ends_like_one_that_ran_through(
    scenes: SceneSet, tmp_path: Path, dtype: torch.dtype
) -> None:
    budget = Budget(minutes=0.4)  # 24 ticks over four stages
    whole = Trainer(network(dtype), scenes, tmp_path / "whole", stages=STAGES_HERE, clock=ticking())
    assert whole.run(budget)
    sessions = 0
    while True:
        sessions += 1
        part = Trainer(network(dtype), scenes, tmp_path / "parts", stages=STAGES_HERE, clock=ticking())
        if part.run(replace(budget, stop_at=after(8))):
            break
    assert sessions > 2
    for number in range(len(STAGES_HERE)):
        one, other = (read_state(tmp_path / name / f"stage-{number}.pt") for name in ("whole", "parts"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (tmp_path / "parts" / "running.pt").exists()


def test_each_stage_moves_what_it_should(scenes: SceneSet, tmp_path: Path) -> None:
    net = network()
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    Trainer(net, scenes, tmp_path, stages=STAGES_HERE, clock=ticking()).run(Budget(minutes=0.5))
    states = [read_state(tmp_path / f"stage-{number}.pt") for number in range(4)]

    def moved(before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> set[str]:
        return {".".join(n.split(".")[:2]) for n in now if not torch.equal(before[n], now[n])}

    assert moved(start, states[0]) == {"model.vision_tower", "heads.dense_rgb"}
    assert moved(states[0], states[1]) == {
        "model.vision_tower",
        "model.depth_tower",
        "heads.dense_rgb",
        "heads.dense_depth",
    }
    assert not any("tower" in name or "dense" in name for name in moved(states[1], states[2]))
    assert {"model.llm", "model.mm_projector", "model.depth_projector", "heads.point"} <= moved(states[1], states[2])
    assert {"model.vision_tower", "model.llm"} <= moved(states[2], states[3])
    assert all(torch.isfinite(value).all() for state in states for value in state.values())


def test_the_depth_tower_starts_as_a_copy() -> None:
    net = network(torch.bfloat16)
    precise = {name: p.detach().float() + 1e-4 for name, p in net.named_parameters()}
    copy_rgb_to_depth(net, precise)
    parameters = dict(net.named_parameters())
    for name in [n for n in parameters if ".vision_tower." in n]:
        twin = name.replace("vision_tower", "depth_tower")
        assert torch.equal(parameters[name], parameters[twin])
        assert torch.equal(precise[name], precise[twin])


@pytest.mark.slow
def test_towers_learn_to_read_boxes(scenes: SceneSet, tmp_path: Path) -> None:
    stage = replace(STAGES_HERE[0], share=1.0, mixture=replace(STAGES_HERE[0].mixture, scenes=8))
    trainer = Trainer(network(), scenes, tmp_path, stages=[stage], clock=ticking())
    trainer.run(Budget(minutes=5.0))
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records[0]["stage"] == "rgb_tower"
    assert records[-1]["colour"] > 0.95
    assert records[-1]["noun"] > 0.8  # chance: 0.5
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert records[-1]["rate"] < 0.2 < max(r["rate"] for r in records)


def test_towers_also_learn_from_pictures_without_questions(scenes: SceneSet, tmp_path: Path) -> None:
    extra = [replace_questions(BoxWorld(8).scene(i)) for i in range(5)]
    write_shard(tmp_path / "pictures" / "00000", extra)
    pictures = SceneSet(tmp_path / "pictures")
    trainer = Trainer(network(), scenes, tmp_path, pictures=pictures, stages=STAGES_HERE, clock=ticking())
    assert trainer.run(Budget(minutes=0.5))  # language still finds questions, in `scenes`


def replace_questions(scene: NanoScene | None) -> NanoScene:
    assert scene is not None
    return replace(scene, questions=())


def test_evaluations_reach_the_log(scenes: SceneSet, tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(_: Network, with_suffix: bool) -> dict[str, object]:
        seen.append(with_suffix)
        return {"all": 0.5}

    stages: list[Stage] = [replace(STAGES_HERE[3], share=1.0)]
    trainer = Trainer(network(), scenes, tmp_path, stages=stages, evaluate=look, clock=ticking())
    trainer.run(Budget(minutes=0.5, eval_minutes=0.2))
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["eval"] for r in records if "eval" in r] == [{"all": 0.5}] * len(seen)
    assert seen[0] is False
    assert seen[-1] is True  # by then every batch writes the suffix out


def test_weights_of_another_network_are_refused(scenes: SceneSet, tmp_path: Path) -> None:
    write_state(tmp_path / "stage-0.pt", {"model.vision_tower.x": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="another network"):
        Trainer(network(), scenes, tmp_path, stages=STAGES_HERE).run(Budget(minutes=1))


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stage-0.pt"
    write_state(path, {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(CheckpointError, match=r"stage-0\.pt cannot be read"):
        read_state(path)
    assert list(tmp_path.glob(".*")) == []


def test_masters_keep_what_bfloat16_loses() -> None:
    net = network(torch.bfloat16)
    name = "model.mm_projector.layers.1.weight"
    precise = {n: p.detach().float() for n, p in net.named_parameters()}
    precise[name] = torch.full_like(precise[name], 1.0005)
    optimiser = Optimiser(net, [name], Rates(rest=1e-5, decay=0.0), precise)
    live = dict(net.named_parameters())[name]
    for _ in range(20):
        live.grad = torch.ones_like(live)
        optimiser.step(1.0)
    assert float(live.detach().float().mean()) == 1.0  # 200 steps too small for bfloat16 to show
    assert float(optimiser.masters[name].detach().mean()) == pytest.approx(1.0005 - 20e-5, abs=2e-5)
    assert [p.requires_grad for n, p in net.named_parameters() if n != name].count(True) == 0


def test_rates_rise_hold_and_fall() -> None:
    def share(step: int, progress: float) -> float:
        return rate_share(step, progress, warm_steps=10, decay_share=0.5)

    assert share(0, 0.0) == 0.1
    assert share(9, 0.1) == share(500, 0.5) == 1.0
    assert share(500, 0.75) == 0.5
    assert share(500, 1.0) == 0.02


def test_every_stage_learns_something_and_all_of_it_is_named() -> None:
    net = network()
    names = {name for name, _ in net.named_parameters()}
    for stage in STAGES:
        assert set(learning_names(net, stage)) < names | {""}
        assert list(learning_names(net, stage))
    assert sum(stage.share for stage in STAGES) == pytest.approx(1.0)


def test_render_and_world_agree(tmp_path: Path) -> None:
    assert render(BoxWorld(1), tmp_path / "x", 3) == 1
