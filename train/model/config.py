"""The top-level config.json of a checkpoint: the keys that matter as a frozen record, the others kept aside.

Each part's own config.json is authoritative for that part; nested copies (`*_cfg` as a dict) only say that the
part exists. This module opens no file.

Source: golden/contract.md sections 1 and 2.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.errors import CheckpointError
from edge_runtime.manifest import ImageMode
from train.model.vision_tower import SelectFeature

# In the order in which the reference counts them.
PARTS = ("llm", "vision_tower", "mm_projector", "depth_tower", "depth_projector")

# Paths on the machine that trained: never read, never written.
_MACHINE_KEYS = ("_name_or_path", "resume_path")


@dataclass(frozen=True)
class ModelConfig:
    """What the top-level config decides.

    Attributes:
        parts: Names of the parts that exist, in the order of `PARTS`; without `depth_tower` the RGB tower
            serves depth too, without `depth_projector` the model has no depth.
        folders: Where a part lies if not in the folder of its name.
        other: All keys as read; unknown ones are written back.
    """

    parts: tuple[str, ...]
    image_mode: ImageMode
    select_layer: int
    select_feature: SelectFeature = "cls_patch"
    min_tiles: int = 1
    max_tiles: int = 12
    s2_scales: tuple[int, ...] = ()  # dynamic_s2 only: picture sides in pixels, smallest first
    s2_output_index: int = -1  # dynamic_s2 only
    folders: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_depth(self) -> bool:
        """Whether the model takes depth."""
        return "depth_projector" in self.parts

    @property
    def scales(self) -> int:
        """How many feature maps are concatenated before the projector."""
        return len(self.s2_scales) or 1

    def to_json(self, part_configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The object to write as config.json.

        Args:
            part_configs: config.json of each part; nested copies are made from it.
        """
        tower_width = part_configs["vision_tower"]["hidden_size"]
        data = {
            "architectures": ["LlavaLlamaModel"],
            "model_type": "llava_llama",
            **{k: v for k, v in self.other.items() if k not in _MACHINE_KEYS},
            "image_aspect_ratio": self.image_mode,
            "dynamic_s2": self.image_mode == "dynamic_s2",
            "min_tiles": self.min_tiles,
            "max_tiles": self.max_tiles,
            "mm_vision_select_layer": self.select_layer,
            "mm_vision_select_feature": self.select_feature,
            "enable_depth": self.has_depth,
            "use_depth_tower": "depth_tower" in self.parts,
            "hidden_size": part_configs["llm"]["hidden_size"],
            "mm_hidden_size": tower_width * self.scales,
        }
        if self.s2_scales:
            data["s2_scales"] = ",".join(map(str, self.s2_scales))
            data["s2_resize_output_to_scale_idx"] = self.s2_output_index
        for part in PARTS:
            data[f"{part}_cfg"] = _without_machine_keys(part_configs[part]) if part in self.parts else None
        return data


def read_config(data: Mapping[str, Any], where: str) -> ModelConfig:
    """Read the object of a config.json.

    Args:
        data: The parsed file.
        where: Its path, for messages.

    Raises:
        CheckpointError: A key that matters is missing, unknown to us, or contradicts another.
    """
    parts = _parts(data, where)
    mode = _one_of(data, "image_aspect_ratio", ("resize", "dynamic", "dynamic_s2"), where)
    if bool(data.get("dynamic_s2")) != (mode == "dynamic_s2"):
        raise CheckpointError(
            f"{where}: dynamic_s2 is {data.get('dynamic_s2')!r} but image_aspect_ratio is {mode!r}; "
            "multi-scale features are only known together with dynamic_s2 tiling"
        )
    for key in ("image_encoder", "depth_encoder"):
        _check_encoder(data.get(key), f"{where}: {key}")
    s2 = mode == "dynamic_s2"
    return ModelConfig(
        parts=parts,
        image_mode=mode,
        select_layer=_integer(data, "mm_vision_select_layer", where),
        select_feature=_one_of(data, "mm_vision_select_feature", ("cls_patch", "patch"), where),
        min_tiles=_integer(data, "min_tiles", where, default=1),
        max_tiles=_integer(data, "max_tiles", where, default=12),
        s2_scales=_scales(data, where) if s2 else (),
        s2_output_index=_integer(data, "s2_resize_output_to_scale_idx", where) if s2 else -1,
        folders={p: data[f"{p}_cfg"] for p in parts if isinstance(data[f"{p}_cfg"], str)},
        other=dict(data),
    )


def _parts(data: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The parts that exist: counted, as the reference does, then checked against what the count stands for."""
    given = tuple(part for part in PARTS if data.get(f"{part}_cfg") is not None)
    meaning = {
        5: PARTS,
        4: ("llm", "vision_tower", "mm_projector", "depth_projector"),
        3: ("llm", "vision_tower", "mm_projector"),
    }
    if given != meaning.get(len(given)):
        raise CheckpointError(
            f"{where}: non-null *_cfg keys name the parts {list(given)}; a checkpoint has llm, vision_tower and "
            "mm_projector, and for depth also depth_projector, with or without depth_tower"
        )
    if data.get("use_depth_tower") and "depth_tower" not in given and "depth_projector" in given:
        raise CheckpointError(
            f"{where}: use_depth_tower is true but depth_tower_cfg is null; "
            "give the depth tower, or set use_depth_tower to false to share the RGB tower"
        )
    return given


def _check_encoder(value: Any, where: str) -> None:
    """Refuse encoders that wrap the features in other tokens than one newline at the end."""
    if value is None:
        return
    try:
        encoder = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        encoder = value
    if not isinstance(encoder, dict):
        raise CheckpointError(f"{where} must be an object or a JSON string of one, found {encoder!r}")
    name = str(encoder.get("_target_", "BasicImageEncoder")).rpartition(".")[2]
    if name != "BasicImageEncoder":
        raise CheckpointError(f"{where} names {name!r}; the only encoder known is BasicImageEncoder")
    tokens = encoder.get("start_tokens"), encoder.get("end_tokens", "\n")
    if tokens != (None, "\n"):
        raise CheckpointError(
            f"{where} asks for start and end tokens {tokens}; only no start and a newline at the end are supported"
        )


def _scales(data: Mapping[str, Any], where: str) -> tuple[int, ...]:
    raw = data.get("s2_scales")
    words = raw.split(",") if isinstance(raw, str) else raw or ()
    try:
        scales = tuple(int(word) for word in words)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{where}: s2_scales must read like "448,896,1344", found {raw!r}') from error
    if not scales or sorted(scales) != list(scales) or any(s <= 0 or s % scales[0] for s in scales):
        raise CheckpointError(f"{where}: s2_scales must be rising multiples of the first, found {raw!r}")
    return scales


def _integer(data: Mapping[str, Any], key: str, where: str, *, default: int | None = None) -> int:
    value = data.get(key, default)
    if type(value) is not int:
        raise CheckpointError(f"{where}: {key} must be a whole number, found {value!r}")
    return value


def _one_of(data: Mapping[str, Any], key: str, choices: tuple[str, ...], where: str) -> Any:
    value = data.get(key)
    if value not in choices:
        raise CheckpointError(f"{where}: {key} must be one of {list(choices)}, found {value!r}")
    return value


def _without_machine_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in _MACHINE_KEYS}
