"""Names, mixtures and packs: what an epoch holds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from train.data.errors import DatasetInvalid
from train.data.json_index import SampleIndex
from train.data.mixture import Mixture, parse_mixture
from train.data.packing import joined, pack, unpacked
from train.data.registry import Registry, load_registry
from train.spatial.formats import TrainingSample, Turn

UPSTREAM = {
    "2D_choice_qa": ("2D/choice_qa.json", "2D/image", "2D/depth"),
    "2D_reasoning_template_qa": ("2D/reasoning_template_qa.json", "2D/image", "2D/depth"),
    "3D_choice_qa": ("3D/choice_qa.json", "3D/image", "3D/depth"),
    "3D_reasoning_template_qa": ("3D/reasoning_template_qa.json", "3D/image", "3D/depth"),
    "3D_vacant_qa": ("3D/vacant_qa.json", "3D/image", "3D/depth"),
    "3D_multi_view_qa": ("3D/multi_view_qa.json", "3D/image_multi_view", "3D/depth_multi_view"),
    "3D_visual_choice_qa": ("3D/visual_choice_qa.json", "3D/image_visual_choice", "3D/depth"),
    "simulation_dataset": ("Simulator/metadata.json", "Simulator/image", "Simulator/depth"),
}  # fmt: skip


@pytest.fixture
def registry() -> Registry:
    return load_registry(Path("/data"))


def test_every_upstream_name_is_there_with_its_twin(registry: Registry) -> None:
    assert set(registry.entries) == set(UPSTREAM) | {f"{name}_RGB" for name in UPSTREAM}
    for name, paths in UPSTREAM.items():
        entry, twin = registry.find(name), registry.find(f"{name}_RGB")
        assert (entry.data_path, entry.image_path, entry.depth_path) == tuple(Path("/data") / p for p in paths)
        assert (twin.data_path, twin.image_path, twin.depth_path) == (entry.data_path, entry.image_path, None)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("3d_choice_qa", "3D_choice_qa"),
        ("3D_choise_qa", "3D_choice_qa"),
        ("simulation_datset_RGB", "simulation_dataset_RGB"),
        ("2D_reasoning_qa", "2D_reasoning_template_qa"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(registry: Registry, typed: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean .*\b{meant}\b"):
        parse_mixture(f"3D_vacant_qa+{typed}*0.5", registry)
    with pytest.raises(ConfigError, match="there are 2D_choice_qa, "):
        registry.find("xyz")


TABLE = '[dataset.mine]\ndata_path = "a.json"\nimage_path = "/pictures"\n'


def test_own_files_are_read_and_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TABLE)
    entry = load_registry(tmp_path, [path]).find("mine")
    assert (entry.data_path, entry.image_path, entry.depth_path) == (tmp_path / "a.json", Path("/pictures"), None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TABLE + TABLE, "cannot be read as TOML"),
        (TABLE + 'depth_path = "d"\n' + TABLE.replace("mine", "mine_RGB"), "'mine_RGB'.* was defined before"),
        (TABLE + 'image_pth = "x"\n', "did you mean image_path"),
        (TABLE.replace('"a.json"', "3"), "data_path is 3"),
        ('[dataset.mine]\ndata_path = "a"\n', "has no image_path"),
        ('[datasets.mine]\ndata_path = "a"\n', "must hold tables"),
        ('[dataset."a+b"]\ndata_path = "a"\nimage_path = "b"\n', "names hold no"),
        ("dataset = 3", "must hold tables"),
        ("[dataset]\nmine = 3", "is no table"),
    ],
)
def test_a_wrong_registry_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_registry(tmp_path, [path])
    assert "mine.toml" in str(caught.value)


def test_one_name_in_two_files_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "one.toml", tmp_path / "two.toml"]
    for path in paths:
        path.write_text(TABLE)
    with pytest.raises(ConfigError, match=r"two.toml was defined before, in .*one.toml"):
        load_registry(tmp_path, paths)
    with pytest.raises(ConfigError, match="no registry"):
        load_registry(tmp_path, [tmp_path / "three.toml"])


@pytest.mark.parametrize(
    ("text", "weight", "limit", "of_100"),
    [
        ("3D_choice_qa", 1.0, None, 100),
        ("3D_choice_qa*0.3", 0.3, None, 30),
        (" 3D_choice_qa*2.5 ", 2.5, None, 250),
        ("3D_choice_qa:40", 1.0, 40, 40),
        ("3D_choice_qa*0.3:20", 0.3, 20, 20),
        ("3D_choice_qa*0.3:1000", 0.3, 1000, 30),
    ],
)
def test_weights_and_limits(registry: Registry, text: str, weight: float, limit: int | None, of_100: int) -> None:
    (found,) = parse_mixture(text, registry)
    assert (found.weight, found.limit, found.per_epoch(100)) == (weight, limit, of_100)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not NAME"),
        ("3D_choice_qa+", "is not NAME"),
        ("3D_choice_qa*", "is not NAME"),
        ("3D_choice_qa*zero", "is no weight"),
        ("3D_choice_qa*-1", "above 0"),
        ("3D_choice_qa*nan", "above 0"),
        ("3D_choice_qa*1e9", "above 0"),
        ("3D_choice_qa:0", "leave it out"),
        ("3D_choice_qa:10*0.3", "is not NAME"),
        ("3D_choice_qa+3D_choice_qa*0.5", "more than once"),
    ],
)
def test_a_wrong_mixture_says_how_to_write_it(registry: Registry, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_mixture(text, registry)


def mixture(registry: Registry, text: str, *available: int, seed: int = 1) -> Mixture:
    return Mixture(parse_mixture(text, registry), available, seed=seed)


def test_an_epoch_has_the_right_numbers_in_a_mixed_order(registry: Registry) -> None:
    mixed = mixture(registry, "3D_choice_qa+3D_vacant_qa*0.3+2D_choice_qa*2:50", 100, 100, 30)
    epoch = mixed.epoch(0)
    assert len(mixed) == len(epoch) == 180
    assert Counter(epoch[:, 0].tolist()) == {0: 100, 1: 30, 2: 50}
    assert sorted(epoch[epoch[:, 0] == 0, 1].tolist()) == list(range(100))
    assert len(set(epoch[epoch[:, 0] == 1, 1].tolist())) == 30
    assert max(Counter(epoch[epoch[:, 0] == 2, 1].tolist()).values()) == 2
    # Mixed: no data set has the first half to itself.
    assert 30 < (epoch[:90, 0] == 0).sum() < 70


def test_epochs_repeat_for_a_seed_and_differ_otherwise(registry: Registry) -> None:
    text = "3D_choice_qa+3D_vacant_qa*0.3"
    first = mixture(registry, text, 100, 100).epoch(3)
    assert np.array_equal(first, mixture(registry, text, 100, 100).epoch(3))
    assert not np.array_equal(first, mixture(registry, text, 100, 100).epoch(4))
    assert not np.array_equal(first, mixture(registry, text, 100, 100, seed=2).epoch(3))


@pytest.mark.parametrize("weight", [0.3, 0.25, 0.07, 1.5])
def test_all_samples_have_their_turn_before_one_has_two_more(registry: Registry, weight: float) -> None:
    mixed = mixture(registry, f"3D_choice_qa*{weight}", 100)
    seen = Counter[int](dict.fromkeys(range(100), 0))
    for number in range(20):
        seen.update(mixed.epoch(number)[:, 1].tolist())
        assert max(seen.values()) - min(seen.values()) <= 1


def test_a_data_set_that_gives_nothing_is_told(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"weight 0\.01 and limit None take none"):
        mixture(registry, "3D_choice_qa*0.01", 10)


def index(pictures: list[int], turns: list[int] | None = None, said: list[int] | None = None) -> SampleIndex:
    n = len(pictures)
    zeros = np.zeros(n, np.uint32)
    return SampleIndex(
        starts=zeros.astype(np.int64),
        lengths=zeros,
        positions=zeros,
        pictures=np.array(pictures, np.uint64),
        views=np.ones(n, np.uint16),
        turns=np.array(turns or [1] * n, np.uint16),
        text_bytes=np.array(said or [10] * n, np.uint32),
        faults={},
        malformed=(),
    )


@pytest.mark.parametrize(
    ("found", "limits", "wanted"),
    [
        (index([7, 7, 8, 7, 9, 8]), {}, [[0, 1, 3], [2, 5], [4]]),
        (index([9, 8, 7]), {}, [[0], [1], [2]]),
        (index([7] * 5), {"most_turns": 2}, [[0, 1], [2, 3], [4]]),
        (index([7] * 3, turns=[5, 1, 1]), {"most_turns": 2}, [[0], [1, 2]]),
        (index([7] * 4, said=[60, 50, 50, 900]), {"most_text_bytes": 100}, [[0], [1, 2], [3]]),
    ],
)
def test_packs_hold_samples_about_one_picture(
    found: SampleIndex, limits: dict[str, int], wanted: list[list[int]]
) -> None:
    packs = pack(found, **limits)
    assert [packs[k].tolist() for k in range(len(packs))] == wanted


def test_a_thousand_random_packs_are_a_partition() -> None:
    rng = np.random.default_rng(0)
    found = index(rng.integers(0, 200, 1000).tolist())
    packs = pack(found, most_turns=4)
    members = [packs[k].tolist() for k in range(len(packs))]
    assert sorted(m for pack_members in members for m in pack_members) == list(range(1000))
    assert all(len(set(found.pictures[m].tolist())) == 1 and len(m) <= 4 for m in members)
    assert [m[0] for m in members] == sorted(m[0] for m in members)
    assert len(packs) == sum(-(-count // 4) for count in Counter(found.pictures.tolist()).values())
    assert [unpacked(found)[k].tolist() for k in (0, 999)] == [[0], [999]]


def test_joining_keeps_all_turns_and_refuses_other_pictures() -> None:
    one = TrainingSample("a", ("p.jpg",), ("p.png",), (Turn("1?", "1!"), Turn("2?", "2!")))
    two = TrainingSample("b", ("p.jpg",), ("p.png",), (Turn("3?", "3!"),))
    assert joined([one, two]) == TrainingSample("a+b", ("p.jpg",), ("p.png",), (*one.turns, *two.turns))
    assert joined([one]) == one
    with pytest.raises(DatasetInvalid, match="different pictures"):
        joined([one, TrainingSample("c", ("q.jpg",), ("p.png",), two.turns)])
