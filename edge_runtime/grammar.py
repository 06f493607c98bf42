"""The grammar an answer has to follow when points are asked for, as GBNF text for the decoder.

It makes malformed coordinates impossible and every answer finite: reasoning and the list of points are
bounded, so even a model that rambles reaches the end. It runs no model and reads no answer.
"""

# "0." and one to four digits, or one with zeros: never outside [0, 1]. The model writes three digits.
COORDINATE = r'coordinate ::= "0." [0-9]{1,4} | "1." [0]{1,4}'
POINT = r'point ::= "(" coordinate "," [ ]? coordinate ")"'
# Upstream reasons in English; keeping to ASCII bounds a thought in bytes, and so in tokens.
THOUGHT = r"thought ::= [\t\n\x20-\x3B\x3D-\x7E]"
MAX_POINTS = 12
MAX_THOUGHT_CHARACTERS = 1200  # five steps of a hundred characters, twice over


def points_grammar(*, max_points: int = MAX_POINTS, max_thought_characters: int = MAX_THOUGHT_CHARACTERS) -> str:
    """Grammar of `[(0.312, 0.654), ...]`, plain or as `<think>...</think><answer>[...]</answer>`.

    Args:
        max_points: most points in the list; at least one is always there.
        max_thought_characters: most characters between `<think>` and `</think>`.

    Raises:
        ValueError: a bound below 1.
    """
    if max_points < 1 or max_thought_characters < 1:
        raise ValueError(f"Bounds start at 1, got {max_points} points, {max_thought_characters} characters.")
    rules = [
        "root ::= list | reasoned",
        f'reasoned ::= "<think>" thought{{1,{max_thought_characters}}} "</think>" [\\n]{{0,2}} '
        '"<answer>" list "</answer>"',
        f'list ::= "[" point ("," [ ]? point){{0,{max_points - 1}}} "]"',
        POINT,
        COORDINATE,
        THOUGHT,
    ]
    return "\n".join(rules) + "\n"


def longest_answer_tokens(*, max_points: int = MAX_POINTS, max_thought_characters: int = MAX_THOUGHT_CHARACTERS) -> int:
    """Tokens that no answer in the grammar exceeds, the stop token included.

    The bound is of the worst model there is: one character a token. A trained one needs about a third.
    """
    wrapper = len("<think></think>\n\n<answer>[]</answer>")
    return wrapper + max_thought_characters + max_points * len(", (0.0000, 0.0000)") + 1
