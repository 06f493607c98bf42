"""Rewards against tables worked out by hand, on a picture of 640 x 480."""

import pytest

from edge_runtime.records import ReasoningStep
from train.stages.rft.rewards import Rewards, Truth, advantages_of, rewards_of

# 50 px are 0.078125 of the width and 0.1041666 of the height.
TRUTH = Truth(
    (640, 480),
    ((0.500, 0.500),),
    (
        ReasoningStep(1, "Position", "tray", "[(0.250, 0.250)]"),
        ReasoningStep(2, "Size", "tray", "0.200"),
        ReasoningStep(3, "Orientation", "tray", "(0.000, 0.600, 0.800)"),
        ReasoningStep(4, "Position", "mug", "[(0.500, 0.500)]"),
    ),
)
P_TRAY, S_TRAY = "Step1: [Position] [tray]: [(0.250, 0.250)]", "Step2: [Size] [tray]: 0.200"
O_TRAY, P_MUG = "Step3: [Orientation] [tray]: (0.000, 0.600, 0.800)", "Step4: [Position] [mug]: [(0.500, 0.500)]"
RIGHT = "[(0.500, 0.500)]"


def reasoned(thought: str, answer: str = RIGHT) -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


# answer, then by hand: format, point, process format, process accuracy
TABLE: dict[str, tuple[str, tuple[float, float, float, float]]] = {
    "all right": (reasoned(f"{P_TRAY} {S_TRAY} {O_TRAY} {P_MUG}"), (1, 1, 1, 1)),
    "steps in another order": (reasoned(f"{P_MUG} {O_TRAY} {S_TRAY} {P_TRAY}"), (1, 1, 1, 1)),
    "half of the annotated steps": (reasoned(f"{P_TRAY} {P_MUG}"), (1, 1, 1, 0.5)),
    "a step more than annotated": (
        reasoned(f"{P_TRAY} {S_TRAY} {O_TRAY} {P_MUG} Step5: [Size] [cat]: 1"), (1, 1, 1, 1),
    ),
    "one right step said twice counts once": (reasoned(f"{P_TRAY} {P_TRAY}"), (1, 1, 1, 0.25)),
    "wrong first, right second": (
        reasoned(f"Step1: [Position] [tray]: [(0.900, 0.900)] {P_TRAY}"), (1, 1, 1, 0.25),
    ),
    "object in capitals and spaces": (reasoned("Step1: [Position] [ Tray ]: [(0.250, 0.250)]"), (1, 1, 1, 0.25)),
    "another object": (reasoned("Step1: [Position] [plate]: [(0.250, 0.250)]"), (1, 1, 1, 0)),
    "right object, other kind": (reasoned("Step1: [Size] [mug]: 0.200"), (1, 1, 1, 0)),
    "point alone, as nano writes it": (RIGHT, (0, 1, 0, 0)),
    "several points: the last one counts": ("[(0.900, 0.900), (0.500, 0.500)]", (0, 1, 0, 0)),
    "several points: the first one does not": ("[(0.500, 0.500), (0.900, 0.900)]", (0, 0, 0, 0)),
    "32 + 18 px away": ("[(0.550, 0.5375)]", (0, 1, 0, 0)),
    "32 + 18.24 px away": ("[(0.550, 0.538)]", (0, 0, 0, 0)),
    "49.92 px to the left": ("[(0.422, 0.500)]", (0, 1, 0, 0)),
    "50.56 px to the left": ("[(0.421, 0.500)]", (0, 0, 0, 0)),
    "outside the picture": ("[(1.500, 0.500)]", (0, 0, 0, 0)),
    "a point thought and not answered": (f"<think>{P_MUG}", (0, 0, 0, 0)),
    "point in the thought, another one answered": (reasoned(P_MUG, "[(0.900, 0.900)]"), (1, 0, 1, 0.25)),
    "form without content": ("<think></think><answer></answer>", (1, 0, 0, 0)),
    "space between the tags": (f"<think>{P_MUG}</think>\n<answer>{RIGHT}</answer>", (1, 1, 1, 0.25)),
    "words before": (f"Well, {reasoned(P_MUG)}", (0, 1, 1, 0.25)),
    "words after": (f"{reasoned(P_MUG)} done", (0, 1, 1, 0.25)),
    "two thoughts": (f"<think>{P_MUG}</think>{reasoned(P_MUG)}", (0, 1, 1, 0.25)),
    "answer before the thought": (f"<answer>{RIGHT}</answer><think>{P_MUG}</think>", (0, 0, 1, 0.25)),
    "no answer tag": (f"<think>{P_MUG}</think>{RIGHT}", (0, 1, 1, 0.25)),
    "thought without steps": (reasoned("the mug is in the middle"), (1, 1, 0, 0)),
    "words before the first step": (reasoned(f"I see: {P_MUG}"), (1, 1, 0, 0.25)),
    "unknown kind of step": (reasoned(f"{P_MUG} Step2: [Colour] [mug]: red"), (1, 1, 0, 0.25)),
    "no brackets around the kind": (reasoned(f"{P_MUG} Step2: Size [tray]: 0.2"), (1, 1, 0, 0.25)),
    "a value that is none": (reasoned(f"{P_MUG} Step2: [Size] [tray]: big"), (1, 1, 0, 0.25)),
    "two positions in one step": (reasoned("Step1: [Position] [mug]: [(0.5, 0.5), (0.1, 0.1)]"), (1, 1, 0, 0)),
    "position outside": (reasoned("Step1: [Position] [mug]: [(0.5, 1.5)]"), (1, 1, 0, 0)),
    "size 15 % more": (reasoned("Step1: [Size] [tray]: 0.230"), (1, 1, 1, 0.25)),
    "size 15.5 % more": (reasoned("Step1: [Size] [tray]: 0.231"), (1, 1, 1, 0)),
    "size 15 % less": (reasoned("Step1: [Size] [tray]: 0.170"), (1, 1, 1, 0.25)),
    "size nothing": (reasoned("Step1: [Size] [tray]: 0"), (1, 1, 0, 0)),
    # cosines: 0.8 is the limit and not more than it; (0, 1, 0.9): (0.6 + 0.72) / 1.3454 = 0.981
    "orientation at the limit": (reasoned("Step1: [Orientation] [tray]: (0.0, 0.0, 1.0)"), (1, 1, 1, 0)),
    "orientation near, not of length 1": (reasoned("Step1: [Orientation] [tray]: (0.0, 1.0, 0.9)"), (1, 1, 1, 0.25)),
    "orientation turned round": (reasoned("Step1: [Orientation] [tray]: (0.0, -0.6, -0.8)"), (1, 1, 1, 0)),
    "orientation of no length": (reasoned("Step1: [Orientation] [tray]: (0, 0, 0)"), (1, 1, 0, 0)),
    "nothing": ("", (0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("text", "by_hand"), TABLE.values(), ids=TABLE)
def test_rewards_are_those_worked_out_by_hand(text: str, by_hand: tuple[float, float, float, float]) -> None:
    assert rewards_of(text, TRUTH) == Rewards(*by_hand)


def test_the_sum_weighs_the_process_by_a_quarter() -> None:
    assert rewards_of(TABLE["all right"][0], TRUTH).total == 2.5
    assert rewards_of(TABLE["half of the annotated steps"][0], TRUTH).total == 1 + 1 + 0.25 + 0.125


def test_without_annotated_steps_the_process_is_judged_by_its_form_alone() -> None:
    bare = Truth((640, 480), ((0.5, 0.5), (0.1, 0.1)))
    assert rewards_of(reasoned(P_TRAY), bare) == Rewards(1, 1, 1, 0)
    assert rewards_of("[(0.1, 0.1)]", bare).point == 1  # any true point will do


def test_the_limit_is_in_pixels_of_the_picture() -> None:
    near = "[(0.560, 0.500)]"
    assert rewards_of(near, TRUTH).point == 1  # 38.4 px
    assert rewards_of(near, Truth((1280, 720), TRUTH.points)).point == 0  # 76.8 px
    assert rewards_of(near, TRUTH, point_px=38).point == 0


@pytest.mark.parametrize(
    ("totals", "by_hand"),
    [
        ([1, 0, 0, 0], [3**0.5, -(3**-0.5), -(3**-0.5), -(3**-0.5)]),  # mean 1/4, std sqrt(3)/4
        ([2.5, 0.5], [1, -1]),
        ([1, 1, 1], [0, 0, 0]),
        ([0.1 + 0.2, 0.3], [0, 0]),  # rounding is no difference
    ],
)
def test_advantages_compare_within_a_group(totals: list[float], by_hand: list[float]) -> None:
    assert advantages_of(totals) == pytest.approx(by_hand)
