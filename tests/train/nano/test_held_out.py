"""Two checkpoints on the same questions: what is counted, and how sure that is."""

import json
from pathlib import Path

import pytest

from tests.contracts.readme_tree import REPOSITORY
from train.nano.evaluate import Asked
from train.nano.held_out import compare, main
from train.nano.records import NanoQuestion

NANO = REPOSITORY / "models" / "nano" / "checkpoint"


def asked(scene: int, column: int, *, hit: bool) -> Asked:
    question = NanoQuestion("where?", "Location", "attribute", 3, (0.5, 0.5))
    return Asked(f"{scene}-{column}", question, (0.5, 0.5), 0.9, hit)


def test_the_same_answers_differ_by_nothing() -> None:
    answers = [asked(scene, column, hit=column == 0) for scene in range(20) for column in range(3)]
    found = compare(answers, answers)
    assert found.questions == 60
    assert (found.before, found.after) == pytest.approx((1 / 3, 1 / 3))
    assert found.interval == (0.0, 0.0)


def test_a_gain_everywhere_is_certain_and_one_in_a_single_scene_is_not() -> None:
    missed = [asked(scene, column, hit=False) for scene in range(40) for column in range(4)]
    everywhere = [asked(scene, column, hit=column == 0) for scene in range(40) for column in range(4)]
    assert compare(missed, everywhere).interval == pytest.approx((0.25, 0.25))
    # as many hits, all of them in ten scenes: questions of a scene stand or fall together
    in_a_few = [asked(scene, column, hit=scene < 10) for scene in range(40) for column in range(4)]
    found = compare(missed, in_a_few)
    assert found.after == pytest.approx(0.25)
    # of 40 scenes a quarter: the standard deviation of the share is sqrt(0.25 * 0.75 / 40) = 0.068
    assert found.interval == pytest.approx((0.25 - 1.96 * 0.068, 0.25 + 1.96 * 0.068), abs=0.03)


@pytest.mark.slow
def test_scenes_are_rendered_once_and_both_are_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path), str(NANO), str(NANO), "--scenes", "2", "--workers", "1"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["all"]["questions"] > 20
    assert told["all"]["before"] == told["all"]["after"] > 0.4
    shard = next(tmp_path.glob("kept-back-*/00000"))
    made = shard.stat().st_mtime_ns
    assert main([*words[:2], str(tmp_path / "nothing"), *words[3:]]) == 3
    assert "no checkpoint at" in capsys.readouterr().err
    assert shard.stat().st_mtime_ns == made
