"""What `train init-depth`, `train align`, `train sft` and `train rft` do with their flags, and what they report."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from train.checkpoint import CONFIG, Checkpoint, checkpoint_root, load_checkpoint, save_checkpoint
from train.model.config import read_config
from train.part_files import read_json
from train.stages.arithmetic import Arithmetic, plan_steps, warmup_steps
from train.stages.arithmetic import show as show_arithmetic
from train.stages.engine import Engine
from train.stages.init_depth import ProjectorStart, with_depth
from train.stages.keeping import Keeper, learning_of
from train.stages.learning import choose_what_learns, hold_frozen_in_16_bits, make_optimizer, set_recomputing
from train.stages.lessons import Lesson, open_lesson
from train.stages.network import LearningModel
from train.stages.presets import check_architecture
from train.stages.run_folder import SKIPPED, RunFolder
from train.stages.schedule import Schedule
from train.stages.settings import Settings
from train.stages.source import DataAsked
from train.stages.trainer import Step, Trainer

JSON = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageOrder:
    """A run as asked on the command line."""

    checkpoint: Path
    data: DataAsked
    out: Path
    settings: Settings
    wandb: str | None = None  # project; None: only TensorBoard


def run_init_depth(base: Path, out: Path, *, projector: ProjectorStart, shared_tower: bool, seed: int) -> JSON:
    """Write a checkpoint with depth.

    Raises:
        CheckpointError: The base cannot be read, or has depth already.
        StorageError: Disk full or not writable.
    """
    made = with_depth(load_checkpoint(base), projector=projector, shared_tower=shared_tower, seed=seed)
    save_checkpoint(made, out)
    return {
        "kind": "train_init_depth",
        "base": str(base),
        "out": str(out),
        "parts": list(made.config.parts),
        "projector": projector,
        "seed": seed,
    }


def run_stage(order: StageOrder) -> JSON | None:
    """Train, or go on.

    Returns:
        What `--json` prints; None on processes that are not to speak.

    Raises:
        ConfigError: Flags or settings are wrong, or the run in OUT was asked for otherwise.
        CheckpointError: The checkpoint cannot be read or is of another architecture.
        DataError: The data is absent, broken, or too little; the loss is no number any more.
        OutOfMemory: A pass is too large.
        StorageError: Disk full or not writable.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # loaders are processes; their threads would be in the way
    check_architecture(order.settings.architecture, part_configs_of(order.checkpoint), order.checkpoint)
    engine = Engine(order.settings, trackers=_trackers(order), folder=order.out / "tensorboard")
    try:
        with RunFolder(order.out, keep=order.settings.keep_checkpoints).locked() if engine.is_main else nullcontext():
            engine.wait()
            report = _train(order, engine)
    finally:
        engine.close()
    return report if engine.is_main else None


def part_configs_of(checkpoint: Path) -> dict[str, JSON]:
    """The configs of a checkpoint by file name; no weights are read.

    Raises:
        CheckpointError: One cannot be read.
    """
    root = checkpoint_root(checkpoint)
    top = read_json(root / CONFIG)
    config = read_config(top, str(root / CONFIG))
    places = {part: root / config.folders.get(part, part) for part in config.parts}
    return {CONFIG: top, **{f"{part}/{CONFIG}": read_json(place / CONFIG) for part, place in places.items()}}


def show_stage(report: JSON) -> str:
    """The report of a stage for a person."""
    if report["steps"] == report["resumed_from"]:
        return f"{report['out']} is finished: {report['steps']} steps were done before"
    told = "loss" if report["reward_first"] is None else "reward"
    first, last = report[f"{told}_first"], report[f"{told}_last"]
    return (
        f"{report['steps'] - report['resumed_from']} steps in {report['seconds']:.0f} s on {report['processes']} "
        f"processes, {told} {first:.3f} -> {last:.3f}, {report['skipped']} samples skipped\n"
        f"checkpoint {report['out']}, {report['learning']} weights learnt"
    )


def _train(order: StageOrder, engine: Engine) -> JSON:
    settings, started = order.settings, time.monotonic()
    checkpoint = load_checkpoint(order.checkpoint)
    run = RunFolder(order.out, keep=settings.keep_checkpoints)
    with engine.main_first():
        lesson = open_lesson(order.data, checkpoint, engine, order.out / SKIPPED)
    arithmetic = plan_steps(settings, engine.processes, lesson.samples)
    done = engine.from_main(run.begin(_identity(order, checkpoint, lesson.identity)) if engine.is_main else None)
    trainer, learning = _trainer(checkpoint, engine, run, lesson, arithmetic)
    if done < arithmetic.total_steps or not run.finished:
        if done:
            trainer.keeper.load(done)
        engine.track(order.wandb or "train", settings.in_use)
        with _progress(engine, arithmetic, done) as on_step:
            trainer.run(done, on_step)
    return _report(order, run, engine, arithmetic, done, learning, time.monotonic() - started)


def _trainer(
    checkpoint: Checkpoint, engine: Engine, run: RunFolder, lesson: Lesson, arithmetic: Arithmetic
) -> tuple[Trainer, int]:
    """The trainer, and how many weights learn."""
    settings, model = engine.settings, checkpoint.model
    choose_what_learns(model, settings)
    set_recomputing(model, settings.gradient_checkpointing)
    if settings.precision == "bf16" and engine.kind in ("alone", "ddp"):
        hold_frozen_in_16_bits(model, checkpoint.file_dtypes)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    engine.take(LearningModel(model), lambda whole: make_optimizer(whole, settings))
    keeper = Keeper(checkpoint, engine, run, learning_of(engine))
    schedule = Schedule(
        settings.learning_rate, arithmetic.total_steps, warmup_steps(arithmetic.total_steps, settings.warmup_ratio)
    )
    return Trainer(engine, lesson.objective, lesson.source(arithmetic), schedule, keeper, run), learning


def _identity(order: StageOrder, checkpoint: Checkpoint, data: Mapping[str, Any]) -> JSON:
    return {"settings": order.settings.decides, "checkpoint_sha256": checkpoint.source_hash, "data": data}


def _report(
    order: StageOrder, run: RunFolder, engine: Engine, arithmetic: Arithmetic, done: int, learning: int, seconds: float
) -> JSON:
    records = run.logged()
    skipped = order.out / SKIPPED
    return {
        "kind": "train_stage",
        "stage": order.settings.stage,
        "checkpoint": str(order.checkpoint),
        "out": str(order.out),
        "processes": engine.processes,
        "engine": engine.kind,
        "global_batch": arithmetic.global_batch,
        "accumulation": arithmetic.accumulation,
        "samples": arithmetic.samples,
        "steps": arithmetic.total_steps,
        "resumed_from": done,
        "learning": learning,
        "loss_first": records[0]["loss"] if records else None,
        "loss_last": records[-1]["loss"] if records else None,
        "reward_first": records[0].get("reward") if records else None,
        "reward_last": records[-1].get("reward") if records else None,
        "tokens": round(sum(record["weight"] * record.get("answer_tokens", 1) for record in records)),
        "skipped": len(set(skipped.read_text(encoding="utf-8").splitlines())) if skipped.is_file() else 0,
        "seconds": round(seconds, 2),
    }


def _trackers(order: StageOrder) -> tuple[str, ...]:
    """Which there are: TensorBoard if it is installed, W&B if it is asked for."""
    from importlib.util import find_spec

    if order.wandb is not None and find_spec("wandb") is None:
        raise ConfigError("--wandb needs the package wandb, which is not installed here: pip install wandb")
    board = ("tensorboard",) if find_spec("tensorboard") is not None else ()
    if not board:
        log.warning("tensorboard is not installed: figures go to log.jsonl only")
    return (*board, *(("wandb",) if order.wandb is not None else ()))


@contextmanager
def _progress(engine: Engine, arithmetic: Arithmetic, done: int) -> Iterator[Callable[[Step], None]]:
    """A bar on the main process's terminal; a line now and then where there is none."""
    if not engine.is_main:
        yield lambda _: None
        return
    sys.stderr.write(f"{show_arithmetic(arithmetic)}; {f'going on after step {done}' if done else 'from the start'}\n")
    if not sys.stderr.isatty():
        yield lambda step: _line(step, arithmetic, engine.settings.log_steps)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=arithmetic.total_steps, completed=done)
        yield lambda step: bar.update(task, completed=step.step, description=_told(step))


def _line(step: Step, arithmetic: Arithmetic, every: int) -> None:
    if step.step % every == 0 or step.step == arithmetic.total_steps:
        sys.stderr.write(
            f"step {step.step}/{arithmetic.total_steps}  {_told(step)}  norm {step.norm:.3f}  "
            f"rate {step.rate:.2e}  {step.seconds:.2f} s\n"
        )


def _told(step: Step) -> str:
    """The loss; of a stage that draws answers, what says more."""
    figures = step.figures
    return f"reward {figures['reward']:.3f}  kl {figures['kl']:.4f}" if "reward" in figures else f"loss {step.loss:.4f}"
