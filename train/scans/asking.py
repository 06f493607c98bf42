"""What is asked about one frame: the engine's forms, without those that the frame gives no ground for."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from train.scans.errors import FrameFaulty
from train.scans.judging import Judged, Limits
from train.spatial.forms import FORMS, Dialogue, FormMaker, FormName
from train.spatial.questions import LOCATION_WEIGHTS, QuestionMaker, QuestionRules
from train.spatial.relations import Relation

# Dialogues of each form that are tried for; facts are reasoning samples that are answered in words.
PER_FRAME: dict[FormName, int] = {
    "choice_qa": 3, "visual_choice_qa": 2, "reasoning_template_qa": 5, "vacant_qa": 3,
}  # fmt: skip
FACTS = 2
# Two frames from almost the same place are one view.
APART_M, APART_DEG = 0.10, 10.0


@dataclass(frozen=True)
class Asked:
    """Dialogues, and how many of each form were tried for."""

    dialogues: tuple[Dialogue, ...]
    tried: Counter[str]


def question_maker(judged: Judged, limits: Limits, rng: np.random.Generator) -> QuestionMaker:
    """The engine over a frame.

    Raises:
        FrameFaulty: The camera is rolled so far that left and right mean nothing.
    """
    weights = dict(LOCATION_WEIGHTS)
    if judged.table is None:
        del weights[Relation.TABLE_PLACE]
    rules = QuestionRules(min_target_share=limits.min_target_share, location_weights=weights)
    try:
        return QuestionMaker(judged.graph, rng, rules)
    except ValueError as error:
        raise FrameFaulty("rolled", str(error)) from error


def ask(maker: QuestionMaker, judged: Judged, rng: np.random.Generator) -> Asked:
    """Everything that is said about one frame, each question once. Without a table nothing is free on it."""
    forms = FormMaker(maker, rng)
    wanted = {form: count for form, count in PER_FRAME.items() if form != "vacant_qa" or judged.table is not None}
    made = [FORMS[form](forms) for form, count in wanted.items() for _ in range(count)]
    made += [forms.fact() for _ in range(FACTS)]
    tried: Counter[str] = Counter({str(form): count for form, count in wanted.items()})
    tried["reasoning_template_qa"] += FACTS
    said = {dialogue.asked: dialogue for dialogue in made if dialogue is not None}
    return Asked(tuple(said.values()), tried)


def are_two_views(first: Judged, second: Judged) -> bool:
    """Whether two frames of a scan show it from places that differ."""
    a, b = (judged.graph.camera.world_from_camera for judged in (first, second))
    cosine = (float(np.trace(a[:3, :3].T @ b[:3, :3])) - 1) / 2
    turned = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return bool(np.linalg.norm(a[:3, 3] - b[:3, 3]) >= APART_M or turned >= APART_DEG)
