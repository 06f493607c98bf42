"""Left and right change places in words and, with them, in pictures, points and patches."""

import pytest

from train.nano.mirror import mirrored


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("The cup to the left of the plate.", "The cup to the right of the plate."),
        ("the leftmost mug", "the rightmost mug"),
        ("on the right-hand side of it", "on the left-hand side of it"),
        (
            "Left of the plate there is a mug, and right of it a cup",
            "Right of the plate there is a mug, and left of it a cup",
        ),
        ("the second from the right, from left to right", "the second from the left, from right to left"),
        ("the far left corner", "the far right corner"),
    ],
)
def test_sides_change_places(text: str, other: str) -> None:
    assert mirrored(text) == other
    assert mirrored(other) == text


@pytest.mark.parametrize(
    "text",
    ["the free spot right in front of the mug", "right behind the bowl", "right next to it", "the bright copyright"],
)
def test_the_adverb_keeps_its_word(text: str) -> None:
    assert mirrored(text) == text


def test_side_and_adverb_in_one_sentence() -> None:
    assert mirrored("the mug right behind the right bowl") == "the mug right behind the left bowl"
