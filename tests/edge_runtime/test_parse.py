"""Answers are read strictly, broken ones are named, and nothing is evaluated."""

import pytest

from edge_runtime.parse import parse_points, parse_text

GOOD = [
    ("[(0.312, 0.654)]", [(0.312, 0.654)], "plain"),
    ("[(0.1, 0.2), (0.3, 0.4)]", [(0.1, 0.2), (0.3, 0.4)], "two points"),
    ("[(0,1)]", [(0.0, 1.0)], "integers, no space"),
    ("[(1.0, 0.0)]", [(1.0, 0.0)], "the borders"),
    ("The cup is at (0.5, 0.25).", [(0.5, 0.25)], "words around it"),
    ("[( 0.5 ,  .25 )]", [(0.5, 0.25)], "spaces, no leading digit"),
    ("[(5e-1, 2.5E-1)]", [(0.5, 0.25)], "exponents"),
    ("<think>Step1: [Position] [mug]: [(0.9, 0.9)]</think><answer>[(0.2, 0.3)]</answer>", [(0.2, 0.3)], "reasoned"),
    ("<think>(0.9, 0.9)</think>[(0.2, 0.3)]", [(0.2, 0.3)], "no answer tag"),
    (
        "<think>so <answer>[(0.9, 0.9)]</answer>?</think><answer>[(0.2, 0.3)]</answer>",
        [(0.2, 0.3)],
        "answer thought of",
    ),
    ("<think>so <answer>[(0.9, 0.9)]</answer>?</think>[(0.2, 0.3)]", [(0.2, 0.3)], "answer thought of, none tagged"),
    ("<think>a</think><think>(0.9, 0.9)</think>[(0.2, 0.3)]", [(0.2, 0.3)], "two thoughts"),
    ("maybe (0.9, 0.9) <answer>[(0.2, 0.3)]", [(0.2, 0.3)], "answer tag left open"),
]

BROKEN = [
    ("", "no (x, y) pair", "empty"),
    ("I cannot see it.", "no (x, y) pair", "words only"),
    ("[(0.3)]", "no (x, y) pair", "one number"),
    ("[(0.3, 0.4", "no (x, y) pair", "cut off"),
    ("[(0.3, 0.4, 0.5)]", "no (x, y) pair", "three numbers"),
    ("[(x, y)]", "no (x, y) pair", "letters"),
    ("[(1.2, 0.4)]", "outside [0, 1]", "outside to the right"),
    ("[(-0.1, 0.4)]", "outside [0, 1]", "negative"),
    ("[(320, 240)]", "outside [0, 1]", "pixels"),
    ("[(1e999, 0.1)]", "outside [0, 1]", "infinite"),
    ("[(nan, 0.1)]", "no (x, y) pair", "not a number"),
    ("__import__('os').system('true')", "no (x, y) pair", "code"),
    ("<think>(0.1, 0.1)</think><answer>none</answer>", "no (x, y) pair", "points only in the reasoning"),
    ("<think>Step1: [Position] [pen holder]: [(0.139, 0.628)] Step2: [Pos", "cut inside its reasoning", "cut thought"),
    ("<think>a</think><think>[(0.1, 0.1)]", "cut inside its reasoning", "second thought cut"),
    ("<think><answer>[(0.1, 0.1)]</answer>", "cut inside its reasoning", "answer inside a cut thought"),
]


@pytest.mark.parametrize(("text", "expected", "_label"), GOOD, ids=[g[2] for g in GOOD])
def test_points_are_read(text: str, expected: list[tuple[float, float]], _label: str) -> None:
    parsed = parse_points(text)
    assert parsed.valid
    assert parsed.reason is None
    assert [(p.x, p.y) for p in parsed.points] == expected
    for point in parsed.points:
        start, end = point.span
        assert text[start] == "("
        assert text[end - 1] == ")"


@pytest.mark.parametrize(("text", "reason", "_label"), BROKEN, ids=[b[2] for b in BROKEN])
def test_broken_answers_are_invalid_and_say_why(text: str, reason: str, _label: str) -> None:
    parsed = parse_points(text)
    assert not parsed.valid
    assert parsed.points == ()
    assert reason in (parsed.reason or "")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("[(0.1, 0.2)]", True),
        ("[(0.1, 0.2)] is where the cup sta", True),
        ("[(0.1, 0.2)], not [(0.3", True),
        ("<think>a</think><answer>[(0.1, 0.2)]", True),
        ("[(0.1, 0.2), (0.3, 0", False),
        ("[(0.1, 0.2)", False),
        ("[(0.1, 0.2)] or [(0.3, 0.4)", False),
        ("[(0.1", False),
        ("<think>[(0.1, 0.2)]</think><answer>[(0.1, 0.2)", False),
    ],
)
def test_a_list_that_was_cut_is_no_answer(text: str, valid: bool) -> None:
    """Cut at the length limit, the rest of the list is unknown; a list that closed before stays."""
    parsed = parse_points(text, complete=False)
    assert parsed.valid == valid
    assert (parsed.reason or "").startswith("" if valid else f"the answer was cut after {len(text)} characters")
    assert parse_points(text).reason != parsed.reason or valid


def test_one_bad_point_makes_the_answer_invalid_but_keeps_the_good_one() -> None:
    parsed = parse_points("[(0.5, 0.5), (1.5, 0.5)]")
    assert not parsed.valid
    assert [(p.x, p.y) for p in parsed.points] == [(0.5, 0.5)]


def test_reasoning_steps_are_kept_in_order() -> None:
    text = (
        "<think>Step1: [Position] [pen holder]: [(0.139, 0.628)] Step2: [Orientation] [mug]: [0.1, 0.2, 0.9]\n"
        "Step3: [Size] [box]: 0.12 m</think><answer>[(0.341, 0.610)]</answer>"
    )
    steps = parse_points(text).steps
    assert [(s.index, s.kind, s.target, s.value) for s in steps] == [
        (1, "Position", "pen holder", "[(0.139, 0.628)]"),
        (2, "Orientation", "mug", "[0.1, 0.2, 0.9]"),
        (3, "Size", "box", "0.12 m"),
    ]


def test_free_text_has_no_points() -> None:
    parsed = parse_text("There are 3 cups (0.5, 0.5).")
    assert (parsed.kind, parsed.points, parsed.valid) == ("text", (), True)
    assert not parse_text("  ").valid
