"""What a run leaves on the disk, and how it goes on after it was stopped.

```
OUT/run.json                          what was asked; the same command goes on, another is refused with the difference
OUT/log.jsonl  tensorboard/           figures of every step
OUT/skipped.jsonl                     samples that could not be used
OUT/checkpoints/step-00000500/model/  a checkpoint in RoboRefer's layout: `export OUT/checkpoints/step-00000500`
OUT/checkpoints/step-00000500/state/  float32 weights that learn and the optimizer, to go on from
OUT/model/                            the finished checkpoint: `export OUT`
```
A checkpoint has its name when it is whole and on the disk; before that it is hidden, and swept away by the next start.
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.errors import CheckpointError, ConfigError
from hardware.storage import replace_folder, storage_errors, whole_file

RUN, LOG, SKIPPED = "run.json", "log.jsonl", "skipped.jsonl"
MODEL, STATE = "model", "state"
_STEP = "step-"


class RunFolder:
    """The folder of one run.

    Args:
        path: Where it is or will be.
        keep: Checkpoints that stay.
    """

    def __init__(self, path: Path, *, keep: int) -> None:
        self.path, self.keep = path, keep
        self._checkpoints = path / "checkpoints"

    @property
    def finished(self) -> bool:
        """Whether the last step was done and its checkpoint written."""
        return (self.path / MODEL).is_dir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else trains into it meanwhile.

        Raises:
            ConfigError: Somebody does.
            StorageError: It cannot be written.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"another run trains into {self.path}; wait for it or choose another OUT") from error
            yield

    def begin(self, asked: Mapping[str, Any]) -> int:
        """Start, or go on.

        Args:
            asked: Everything that decides what comes out, as plain JSON.

        Returns:
            Steps that are done; 0 at the beginning.

        Raises:
            ConfigError: The folder holds something else, or a run that was asked for otherwise.
            StorageError: It cannot be written.
        """
        known = self.path / RUN
        if known.is_file():
            self._refuse_changes(json.loads(known.read_text(encoding="utf-8")), _plain(asked))
        else:
            foreign = sorted(p.name for p in self.path.iterdir() if p.name not in (".lock", SKIPPED))
            if foreign:
                raise ConfigError(f"{self.path} holds {foreign[:5]} and no {RUN}; name a new folder to train into")
            with whole_file(known) as partial:
                partial.write_text(json.dumps(_plain(asked), indent=2) + "\n", encoding="utf-8")
        self._sweep()
        done = max(self.steps(), default=0)
        self._cut_log(done)
        return done

    def steps(self) -> list[int]:
        """Steps with a whole checkpoint."""
        return sorted(int(path.name.removeprefix(_STEP)) for path in self._checkpoints.glob(f"{_STEP}*"))

    def checkpoint(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self._checkpoints / f"{_STEP}{step:08d}"

    def staging(self) -> Path:
        """A hidden folder to write a checkpoint into."""
        path = self._checkpoints / f".partial-{secrets.token_hex(4)}"
        with storage_errors(path):
            path.mkdir(parents=True)
        return path

    def publish(self, staged: Path, step: int) -> None:
        """Give a whole checkpoint its name and remove the oldest ones.

        Raises:
            StorageError: Disk full or not writable.
        """
        with storage_errors(staged):
            for file in (p for p in staged.rglob("*") if p.is_file()):
                _sync(file)
            replace_folder(staged, self.checkpoint(step))
            _sync(self._checkpoints)
            for old in self.steps()[: -self.keep]:
                gone = self._checkpoints / f".gone-{old}"
                self.checkpoint(old).rename(gone)
                shutil.rmtree(gone)

    def finish(self, step: int) -> None:
        """Make the last checkpoint's model the run's own; it takes no space of its own where links can be made.

        Raises:
            StorageError: Disk full or not writable.
        """
        staged = self.path / f".{MODEL}.partial-{secrets.token_hex(4)}"
        with storage_errors(staged):
            shutil.copytree(self.checkpoint(step) / MODEL, staged, copy_function=_link)
            replace_folder(staged, self.path / MODEL)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append figures."""
        with storage_errors(self.path), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def logged(self) -> list[dict[str, Any]]:
        """All figures; a last line that was cut off is left out."""
        path = self.path / LOG
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _cut_log(self, done: int) -> None:
        """Forget steps after the checkpoint that is gone on from: they will be done again."""
        kept = [record for record in self.logged() if record["step"] <= done]
        if (self.path / LOG).is_file():
            with whole_file(self.path / LOG) as partial:
                partial.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def _sweep(self) -> None:
        for hidden in [*self._checkpoints.glob(".partial-*"), *self._checkpoints.glob(".gone-*")]:
            shutil.rmtree(hidden, ignore_errors=True)
        for hidden in self.path.glob(f".{MODEL}.partial-*"):
            shutil.rmtree(hidden, ignore_errors=True)

    def _refuse_changes(self, before: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        changes = list(differences(before, asked))
        if changes:
            raise ConfigError(
                f"{self.path} holds a run that was asked for otherwise: {'; '.join(changes)}. Ask as before to go on, "
                "or name a new folder"
            )


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """What changed between two JSON values, each as `settings.seed: 1 -> 2`."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from differences(before.get(key), after.get(key), f"{where}.{key}" if where else str(key))
    elif before != after:
        yield f"{where}: {json.dumps(before)} -> {json.dumps(after)}"


def read_state(path: Path, load: Callable[[Path], Any]) -> Any:
    """A file of a checkpoint's state.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return load(path)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; remove {path.parent.parent} to go on from the checkpoint before"
        ) from error


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(value)))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
