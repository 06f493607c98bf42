"""Presets of the stages, from presets.toml: read, overridden, printed, and compared with a checkpoint."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from edge_runtime.errors import CheckpointError, ConfigError
from train.data.registry import nearest
from train.stages.settings import Settings

PRESETS = Path(__file__).with_name("presets.toml")
ANY = "any"


def preset_names(stage: str | None = None) -> tuple[str, ...]:
    """The presets there are, of one stage or of all."""
    names = tuple(_tables()["preset"])
    return tuple(name for name in names if stage in (None, _values(name)["stage"]))


def settings_of(preset: str, stage: str, overrides: Sequence[str] = ()) -> Settings:
    """A preset with some of its values replaced.

    Args:
        preset: Its name.
        stage: The stage it must be of.
        overrides: "KEY=VALUE", the value as TOML writes it; a word needs no quotes, a list is words between commas.

    Raises:
        ConfigError: No such preset or key, or a value that cannot be.
    """
    known = preset_names(stage)
    if preset not in known:
        raise ConfigError(f"there is no preset {preset!r} of the stage {stage}; {nearest(preset, known)}")
    values = {**_values(preset), **dict(_override(text) for text in overrides)}
    if values["stage"] != stage:
        raise ConfigError(f"stage is {values['stage']!r}, asked for is {stage}; the verb decides it")
    return make_settings(values)


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Settings of plain values, lists turned into tuples.

    Raises:
        ConfigError: An unknown key, a value of another type, or values that cannot be.
    """
    checked = {name: _typed(name, value) for name, value in values.items()}
    try:
        return Settings(**checked)
    except TypeError as error:
        raise ConfigError(f"the settings are not complete: {error}") from error


def show(settings: Settings) -> str:
    """Settings as TOML, in the order of their definition."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.in_use.items())


def show_sharing(settings: Settings, counts: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)) -> str:
    """How the global batch falls on so many processes, as TOML comments."""
    at_once = {n: settings.per_device_batch * n for n in counts}
    lines = [
        f"# {n} processes: {settings.per_device_batch} x {n} x {settings.global_batch // each} accumulated"
        if settings.global_batch % each == 0
        else f"# {n} processes: {settings.global_batch} is not a multiple of {each}, set another per_device_batch"
        for n, each in at_once.items()
    ]
    return "\n".join([f"# global batch {settings.global_batch} on", *lines])


def check_architecture(name: str, configs: Mapping[str, Mapping[str, Any]], where: Path) -> None:
    """Refuse a checkpoint that a preset is not meant for.

    Args:
        name: Of the architecture.
        configs: "llm/config.json" and so on -> its content.
        where: The checkpoint.

    Raises:
        CheckpointError: Keys differ; all are named.
        ConfigError: There is no such architecture.
    """
    if name == ANY:
        return
    known = _tables()["architecture"]
    if name not in known:
        raise ConfigError(f"there is no architecture {name!r}; {nearest(name, (*known, ANY))}")
    wrong = [
        f"{file}: {key} is {configs.get(file, {}).get(key)!r}, not {wanted!r}"
        for file, keys in known[name].items()
        for key, wanted in keys.items()
        if configs.get(file, {}).get(key) != wanted
    ]
    if wrong:
        raise CheckpointError(
            f"{where} is not of the architecture {name}: {'; '.join(wrong)}. Take the preset made for it, or train it "
            "as it is with --set architecture=any"
        )


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(PRESETS.read_text(encoding="utf-8"))


def _values(preset: str) -> dict[str, Any]:
    own = dict(_tables()["preset"][preset])
    inherited = _values(own.pop("like")) if "like" in own else {}
    return {**inherited, **own}


def _override(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found:
        raise ConfigError(f"--set {text!r} is not KEY=VALUE, such as learning_rate=1e-5")
    key, value = key.strip(), value.strip()
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, [word.strip() for word in value.split(",")] if _takes_list(key) else value


def _takes_list(key: str) -> bool:
    return key in ("learn", "lora_parts")


def _typed(name: str, value: Any) -> Any:
    """A value as its field wants it: whole numbers pass as floats, a word as a list of one."""
    kinds = {f.name: f.type for f in fields(Settings)}
    if name not in kinds:
        raise ConfigError(f"there is no setting {name!r}; {nearest(name, tuple(kinds))}")
    if _takes_list(name) and isinstance(value, str):
        value = [value]
    wanted = _python_type(kinds[name])
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not wanted:
        raise ConfigError(f"{name} is {value!r}; it takes {_WORDS[wanted]}")
    return value


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", tuple: "a list"}


def _python_type(kind: Any) -> type:
    if kind in (int, float, bool, str):
        return kind
    return tuple if str(kind).startswith("tuple") else str  # the others are literals: words
