"""Training data in RefSpatial's layout: pictures, depth, and the five forms of questions, from seeded scenes.

    OUT/
      dataset.json                what it is: plan, counts, hash of what is said
      scenes.jsonl                the scene graph of each picture
      3D/choice_qa.json           likewise reasoning_template_qa, vacant_qa, visual_choice_qa, multi_view_qa
      3D/image/000000.jpg         what three of the forms are about
      3D/image_visual_choice/     the same with lettered marks
      3D/image_multi_view/        two views of a scene: 000000_0.jpg, 000000_1.jpg
      3D/depth/, 3D/depth_multi_view/

Parts are scenes: any number of workers and any interruption gives the same files.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy.typing as npt

from edge_runtime.errors import ConfigError
from edge_runtime.manifest import DepthSpec
from edge_runtime.model_depth import relative_from_metric
from hardware.storage import storage_errors, whole_file
from train.simulate import digest
from train.simulate.parts import JSON, PartsDone, Progress, begin, finish, make_parts, read_parts
from train.simulate.seeds import NOISE_STREAM, QUESTION_STREAM, stream, training_seed
from train.simulator.depth_noise import noisy_depth, to_counts
from train.simulator.errors import SceneImpossible, ShardInvalid
from train.simulator.render import Quality, Renderer
from train.simulator.sample import Sample, draw_views
from train.simulator.scene import SceneConfig, assets_of
from train.simulator.shards import scene_line
from train.simulator.viewpoint import LENSES
from train.spatial.formats import (
    TrainingSample,
    Turn,
    draw_marks,
    save_jpeg,
    save_png,
    turn_of_dialogue,
    write_training,
)
from train.spatial.forms import FORMS, Dialogue, FormMaker, FormName, across_views
from train.spatial.questions import QuestionMaker

SCHEMA = 1
SUMMARY_FILE, SCENES_FILE, FOLDER = "dataset.json", "scenes.jsonl", "3D"
MILLIMETRE = 0.001
# Dialogues of each form that are tried for in a scene; most point, because pointing is what is asked of the model.
PER_SCENE: dict[FormName, int] = {
    "choice_qa": 2, "visual_choice_qa": 1, "reasoning_template_qa": 4, "vacant_qa": 2,
}  # fmt: skip
GOOD = Quality(shadow_px=2048, samples=4)
FACTS = 1  # of the reasoning ones: answered in words

# exact and noisy: 16 bits, millimetres, 0 = hole; relative: 8 bits, 255 = nearest, as RefSpatial's own.
DepthKind = Literal["exact", "noisy", "relative"]


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides what a dataset holds."""

    seed: int
    count: int  # scenes
    depth: DepthKind = "exact"
    size: tuple[int, int] | None = None  # (width, height) of all pictures; the lens's own if None
    quality: Quality = GOOD
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        """Refuse an empty dataset, a bench's seed and a depth that does not exist."""
        training_seed(self.seed)
        if self.count < 1:
            raise ConfigError(f"a dataset holds at least one scene, not {self.count}")
        if self.depth not in get_args(DepthKind):
            raise ConfigError(f"there is no depth {self.depth!r}; there are {', '.join(get_args(DepthKind))}")

    @property
    def parts(self) -> int:
        """Scenes."""
        return self.count

    def to_json(self) -> JSON:
        """What a begun dataset must agree in to be continued."""
        return {"schema": SCHEMA, **json.loads(json.dumps(asdict(self)))}

    def open(self) -> "TrainingMaker":
        """A renderer."""
        return TrainingMaker(self)


class TrainingMaker:
    """Draws scenes, asks about them and writes their pictures.

    Args:
        plan: Of the dataset.

    Raises:
        GraphicsMissing: No OpenGL here.
        AssetPackageMissing: Scans are asked for and not installed.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan = plan
        sizes = [(lens.width, lens.height) for lens in LENSES] if plan.size is None else [plan.size]
        widths, heights = zip(*sizes, strict=True)
        assets = assets_of(plan.scene)
        self._renderer = Renderer(assets, width=max(widths), height=max(heights), quality=plan.quality)

    def make(self, part: int, folder: Path) -> JSON:
        """Scene `part`: its pictures below `folder`, its samples by form; `skipped` if no scene came up."""
        plan, folder = self._plan, folder / FOLDER
        views = draw_views(self._renderer, plan.seed, part, plan.scene, plan.size)
        try:
            first = next(views)
        except SceneImpossible:
            return {"skipped": True, "samples": [], "scene": None}
        rng = stream(plan.seed, part, QUESTION_STREAM)
        maker = QuestionMaker(first.graph, rng)
        samples = self._about_one(folder, part, first, dialogues(FormMaker(maker, rng)))
        second = next(islice(views, 1), None)
        pair = None if second is None else across_views(maker, QuestionMaker(second.graph, rng), rng)
        if second is not None and pair is not None:
            samples.append(self._about_two(folder, part, (first, second), pair))
        return {
            "skipped": False,
            "samples": [(form, asdict(sample)) for form, sample in samples],
            "scene": {**scene_line(part, first), "paints": first.paints},
        }

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()

    def _about_one(
        self, folder: Path, part: int, sample: Sample, said: Sequence[Dialogue]
    ) -> list[tuple[FormName, TrainingSample]]:
        name, found = f"{part:06d}", []
        save_jpeg(folder / "image" / f"{name}.jpg", sample.rgb)
        save_png(folder / "depth" / f"{name}.png", self._depth(sample, part, 0))
        for k, dialogue in enumerate(said):
            image = f"{name}_{k}.jpg" if dialogue.marks else f"{name}.jpg"
            if dialogue.marks:
                save_jpeg(folder / "image_visual_choice" / image, draw_marks(sample.rgb, dialogue.marks))
            turns = (turn_of_dialogue(dialogue),)
            found.append((dialogue.form, TrainingSample(f"{name}_{k}", (image,), (f"{name}.png",), turns)))
        return found

    def _about_two(
        self, folder: Path, part: int, views: Sequence[Sample], said: Dialogue
    ) -> tuple[FormName, TrainingSample]:
        names = [f"{part:06d}_{k}" for k in range(len(views))]
        for k, (name, sample) in enumerate(zip(names, views, strict=True)):
            save_jpeg(folder / "image_multi_view" / f"{name}.jpg", sample.rgb)
            save_png(folder / "depth_multi_view" / f"{name}.png", self._depth(sample, part, k))
        images, depths = (tuple(f"{name}{suffix}" for name in names) for suffix in (".jpg", ".png"))
        return said.form, TrainingSample(f"{part:06d}_views", images, depths, (turn_of_dialogue(said),))

    def _depth(self, sample: Sample, part: int, view: int) -> npt.NDArray[Any]:
        if self._plan.depth == "relative":
            return relative_from_metric(sample.depth_m, DepthSpec())
        if self._plan.depth == "exact":
            return to_counts(sample.depth_m, MILLIMETRE)
        rng = stream(self._plan.seed, part, NOISE_STREAM + view)
        return to_counts(noisy_depth(sample.depth_m, rng), MILLIMETRE)


def dialogues(forms: FormMaker) -> list[Dialogue]:
    """What is said about one view, each question once."""
    made = [FORMS[form](forms) for form, count in PER_SCENE.items() for _ in range(count)]
    made += [forms.fact() for _ in range(FACTS)]
    return list({dialogue.asked: dialogue for dialogue in made if dialogue is not None}.values())


@dataclass(frozen=True)
class TrainingMade:
    """What writing a dataset came to."""

    out: Path
    summary: JSON  # what dataset.json holds
    done: PartsDone | None  # None: it was there already


def write_training_data(
    plan: TrainingPlan, out: Path, *, workers: int = 1, on_progress: Progress | None = None
) -> TrainingMade:
    """Write a dataset, or open it if it is there.

    Args:
        plan: What it holds.
        out: The folder, complete or absent; work in progress lies hidden beside it and is continued.
        workers: Processes.
        on_progress: Called after each scene.

    Raises:
        ShardInvalid: `out` is something else, or work of another plan was begun for it.
        StorageError: Disk full or not writable; finished scenes stay.
        GraphicsMissing: No OpenGL here.
        SceneImpossible: Not one scene could be drawn.
    """
    if out.exists():
        return TrainingMade(out, _opened(plan, out), None)
    staged = begin(out, plan)
    done = make_parts(plan, staged, workers=workers, on_progress=on_progress)
    parts = [part for part in read_parts(plan, staged) if not part["skipped"]]
    if not parts:
        raise SceneImpossible(f"none of {plan.count} scenes could be drawn under {plan.scene}; ask for fewer objects")
    said = {form: list(_samples(parts, form)) for form in get_args(FormName)}
    with storage_errors(out):
        for form, samples in said.items():
            write_training(staged / FOLDER / f"{form}.json", samples)
    with whole_file(staged / SCENES_FILE) as partial:
        partial.write_text("".join(json.dumps(part["scene"]) + "\n" for part in parts), encoding="utf-8")
    summary = {
        "plan": plan.to_json(),
        "scenes": len(parts),
        "skipped": plan.count - len(parts),
        "samples": {form: len(samples) for form, samples in said.items()},
        "hashes": {"questions": digest.of_json({f: [s.as_json() for s in samples] for f, samples in said.items()})},
        "made_with": {name: version(name) for name in ("mujoco", "pillow", "numpy")},
    }
    with whole_file(staged / SUMMARY_FILE) as partial:
        partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    finish(staged, out)
    return TrainingMade(out, summary, done)


def _samples(parts: Sequence[JSON], form: FormName) -> Iterator[TrainingSample]:
    for part in parts:
        for own, sample in part["samples"]:
            if own == form:
                turns = tuple(Turn(**turn) for turn in sample["turns"])
                yield TrainingSample(sample["id"], tuple(sample["images"]), tuple(sample["depths"]), turns)


def _opened(plan: TrainingPlan, out: Path) -> JSON:
    """What is known of a finished dataset."""
    try:
        summary = dict(json.loads((out / SUMMARY_FILE).read_text(encoding="utf-8")))
        found = summary["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardInvalid(f"{out} exists and is no training data ({error}); choose another folder") from error
    if found != plan.to_json():
        differing = ", ".join(sorted(name for name, value in plan.to_json().items() if found.get(name) != value))
        raise ShardInvalid(f"{out} was made with another plan (differs in {differing}); choose another folder")
    return summary
