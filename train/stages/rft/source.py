"""The passes of every step: questions asked of the model as it is now, its answers judged.

A step's questions depend on seed and epoch, its random numbers on seed, step and place in the global batch; so neither
processes nor a stop in between change what is drawn.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from train.stages.arithmetic import Arithmetic
from train.stages.collate import Inputs
from train.stages.drawing import DRAW_RANGE
from train.stages.engine import Engine
from train.stages.examples import LOADER_TIMEOUT_S, places_of_pass
from train.stages.rft.groups import answers_in, asking, learning
from train.stages.rft.questions import Question, Questions
from train.stages.rft.rewards import rewards_of
from train.tokenizer import stop_ids

_DRAWING = 2  # stream of random numbers; 0 and 1 are the mixture's


class AnswerSource:
    """Asks, judges, and gives what is to be learnt.

    Args:
        questions: What is asked.
        tokenizer: Of the model.
        arithmetic: Of the run; samples are questions.
        engine: With the model, once steps are asked for.
    """

    def __init__(
        self, questions: Questions, tokenizer: PreTrainedTokenizerFast, arithmetic: Arithmetic, engine: Engine
    ) -> None:
        self._questions, self._tokenizer = questions, tokenizer
        self._arithmetic, self._engine = arithmetic, engine
        self._stop_ids = torch.tensor(stop_ids(tokenizer))

    def steps(self, first: int) -> Iterator[Sequence[Inputs]]:
        """From a step on to the run's last one; a step is answered when it is asked for, not before."""
        per_epoch, total = self._arithmetic.steps_per_epoch, self._arithmetic.total_steps
        while first < total:
            epoch, within = divmod(first, per_epoch)
            last = min(per_epoch, total - epoch * per_epoch)
            for passes in self._asked(epoch, range(within, last)):
                yield [self._answered(questions, first, places) for questions, places in passes]
                first += 1

    def _asked(self, epoch: int, steps: range) -> Iterator[list[tuple[list[Question], list[int]]]]:
        """The questions of this process at each step of an epoch, with their places in it, pass by pass."""
        self._questions.set_epoch(epoch)
        accumulated = range(self._arithmetic.accumulation)
        places = [places_of_pass(self._arithmetic, self._engine.process, s, a) for s in steps for a in accumulated]
        workers = self._engine.settings.loader_workers
        loader = iter(
            DataLoader(
                self._questions,
                batch_sampler=places,
                num_workers=workers,
                collate_fn=list,
                timeout=LOADER_TIMEOUT_S if workers else 0,
            )
        )
        turn = iter(places)
        for _ in steps:
            yield [(next(loader), next(turn)) for _ in accumulated]

    def _answered(self, questions: Sequence[Question], step: int, places: Sequence[int]) -> Inputs:
        engine = self._engine
        inputs = asking(questions, engine.pixel_dtype)
        inputs["draws"] = torch.stack([self._draws(step, place) for place in places])
        inputs["stop_ids"] = self._stop_ids
        assert engine.model is not None
        with torch.no_grad():
            answers = answers_in(engine.model(engine.to_device(inputs)))
        rewards = [
            [rewards_of(self._text(answer), question.truth, point_px=engine.settings.point_px) for answer in group]
            for question, group in zip(questions, answers, strict=True)
        ]
        ended = [[bool(torch.isin(answer[-1], self._stop_ids)) for answer in group] for group in answers]
        return learning(questions, answers, rewards, ended, engine.pixel_dtype)

    def _draws(self, step: int, place: int) -> Tensor:
        """int64 [G, T] for one question."""
        settings = self._engine.settings
        rng = np.random.default_rng([settings.seed, _DRAWING, step, place])
        shape = settings.answers_per_question, settings.max_answer_tokens
        return torch.from_numpy(rng.integers(0, DRAW_RANGE, shape))

    def _text(self, answer: Tensor) -> str:
        return str(self._tokenizer.decode(answer.tolist(), skip_special_tokens=True)).strip()
