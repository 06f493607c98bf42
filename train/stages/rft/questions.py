"""What reinforcement asks: the questions for points of a mixture of data sets, each alone, with its truth.

The truth is what the data set answers: its points and, where it reasons, its annotated steps.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from edge_runtime.errors import DepthError, ImageError
from edge_runtime.parse import parse_points
from edge_runtime.records import ViewTiles
from train.data.errors import DatasetInvalid
from train.data.mixture import Indices, Ingredient, Mixture
from train.data.refspatial import asks_for_points
from train.data.training_set import MOST_SKIPPED_AT_ONCE, SkipList, Skipped, load_views
from train.data.training_set import Dataset as Samples
from train.model.vlm import IGNORED_LABEL
from train.spatial.formats import Turn
from train.stages.conversation import ConversationEncoder, TooLong
from train.stages.rft.rewards import Truth

ANY_STEPS = 0


@dataclass(frozen=True, eq=False)
class Question:
    """One question as the model is asked it; S tokens with one placeholder per media block."""

    prompt_ids: Tensor  # int64 [S]
    images: tuple[ViewTiles, ...]
    depths: tuple[ViewTiles, ...]
    truth: Truth


class Questions(Dataset[Question]):
    """The questions of an epoch, by place.

    Args:
        ingredients: Of the mixture; weights and limits count questions.
        encoder: For the checkpoint that learns; its longest sequence must hold prompt and true answer.
        seed: Of the order.
        reasoning_steps: Take only questions with so many annotated steps; 0: all.
        leave_out_others: Do without data sets that ask nothing that is wanted, as long as one does.
        skipped: Where broken samples are listed; None: only logged.

    Raises:
        ConfigError: A data set gives no question under its weight and limit.
        DatasetInvalid: A data set is absent, or asks nothing that is wanted.
    """

    def __init__(
        self,
        ingredients: Sequence[Ingredient],
        encoder: ConversationEncoder,
        *,
        seed: int,
        reasoning_steps: int = ANY_STEPS,
        leave_out_others: bool = False,
        skipped: Path | None = None,
    ) -> None:
        found = [_wanted(Samples(ingredient.dataset), reasoning_steps) for ingredient in ingredients]
        some = [one for one in found if one.questions]
        if len(some) < len(found) and not (leave_out_others and some):
            raise DatasetInvalid(next(one for one in found if not one.questions).complaint(reasoning_steps))
        self.datasets = tuple(one.samples for one in some)
        self._asked = [one.questions for one in some]
        taken = [i for i, one in zip(ingredients, found, strict=True) if one.questions]
        self.mixture = Mixture(taken, self.available, seed=seed)
        self._encoder, self._skipped = encoder, SkipList(skipped)
        self._order: Indices = self.mixture.epoch(0)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def available(self) -> tuple[int, ...]:
        """Questions of each data set."""
        return tuple(len(asked) for asked in self._asked)

    def set_epoch(self, number: int) -> None:
        """Go to the order of another epoch."""
        self._order = self.mixture.epoch(number)

    def __getitem__(self, place: int) -> Question:
        """The question at a place of the epoch, or the next one of its data set whose pictures can be read.

        Raises:
            DatasetInvalid: A hundred in a row cannot be asked.
        """
        which, number = (int(value) for value in self._order[place])
        asked = self._asked[which]
        for attempt in range(min(MOST_SKIPPED_AT_ONCE, len(asked))):
            sample, turn = asked[(number + attempt) % len(asked)]
            try:
                return self._question(self.datasets[which], sample, turn)
            except (ImageError, DepthError, TooLong) as error:
                reason = str(error)
                entry = self.datasets[which].entry
                self._skipped.add(Skipped(entry.name, self.datasets[which].sample(sample).id, reason))
        raise DatasetInvalid(f"{attempt + 1} questions in a row cannot be asked, the last one: {reason}")

    def _question(self, samples: Samples, number: int, turn_number: int) -> Question:
        sample = samples.sample(number)
        turn = sample.turns[turn_number]
        views = load_views(samples.entry, sample)
        example = self._encoder.encode(views, [turn])
        height, width = views[-1].rgb.shape[:2]  # of several pictures, the last one is pointed into
        prompt_ids = example.input_ids[example.labels == IGNORED_LABEL]
        return Question(prompt_ids, example.images, example.depths, truth_of(turn, (width, height)))


def truth_of(turn: Turn, size_px: tuple[int, int]) -> Truth:
    """What a turn takes for true.

    Args:
        turn: One that is answered with points.
        size_px: Width and height of the picture.
    """
    parsed = parse_points(turn.answered)
    return Truth(size_px, tuple((point.x, point.y) for point in parsed.points), parsed.steps)


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What a data set asks for."""

    samples: Samples
    questions: list[tuple[int, int]]  # sample and turn of those that are wanted
    by_steps: Counter[int]  # all questions for points, by their annotated steps

    def complaint(self, reasoning_steps: int) -> str:
        """Why there is none."""
        name = self.samples.entry.name
        if not self.by_steps:
            return f"data set {name} asks for no point, and only pointing can be rewarded; leave it out of --mixture"
        there = ", ".join(f"{count} with {steps}" for steps, count in sorted(self.by_steps.items()))
        return (
            f"data set {name} has no question with {reasoning_steps} annotated steps; there are {there}. "
            "Take one of these for --set reasoning_steps=..., or 0 for all"
        )


def _wanted(samples: Samples, reasoning_steps: int) -> _Wanted:
    steps = {
        (number, place): len(parse_points(turn.answered).steps)
        for number in range(len(samples))
        for place, turn in enumerate(samples.sample(number).turns)
        if asks_for_points(turn.asked)
    }
    wanted = [key for key, count in steps.items() if reasoning_steps in (ANY_STEPS, count)]
    return _Wanted(samples, wanted, Counter(steps.values()))
