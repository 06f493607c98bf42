"""The RoboRefer on-disk layout, read into our modules and written back.

```
<root>/config.json
<root>/llm/  vision_tower/  mm_projector/  [depth_tower/]  [depth_projector/]     each: config.json + safetensors
```
Without `depth_tower/` the RGB tower serves depth; without `depth_projector/` the model has no depth. Reading never
reaches a network; writing replaces the folder in one move or leaves it as it was. Upstream's pickled weights
are not read here.

Source: golden/contract.md sections 1 to 4.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from edge_runtime.errors import CheckpointError
from hardware.storage import check_target, replace_folder, storage_errors
from train.model.config import PARTS, ModelConfig, read_config
from train.model.vlm import SpatialVLM
from train.part_files import (
    DEFAULT_SHARD_BYTES,
    PartTensors,
    hash_folder,
    read_json,
    write_json,
    write_tensors,
)
from train.parts import EMBEDDING_NAMES, assemble, build_part, check_tied_head, fit_rows, tower_has_head
from train.tokenizer import TokenizerFiles, read_tokenizer

logger = logging.getLogger(__name__)

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
GENERATION = "generation_config.json"

# Buffers that old transformers releases wrote; they are computed, not learnt.
_COMPUTED = ("position_ids", "rotary_emb.inv_freq")


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything its folder says about it."""

    model: SpatialVLM
    tokenizer_files: TokenizerFiles
    config: ModelConfig
    part_configs: Mapping[str, Mapping[str, Any]]  # config.json of each part
    preprocessors: Mapping[str, Mapping[str, Any]]  # preprocessor_config.json of each tower
    generation_config: Mapping[str, Any] | None  # kept for the way back; has no influence
    file_dtypes: Mapping[str, torch.dtype]  # of each part on disk
    path: Path | None  # the root that was read; None: never written

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer, complete with media tokens."""
        return self.tokenizer_files.tokenizer

    @cached_property
    def source_hash(self) -> str:
        """sha256 over all files below the root and of parts that lie elsewhere; hashed when first asked for.

        Raises:
            CheckpointError: The checkpoint was made in memory.
        """
        if self.path is None:
            raise CheckpointError("this checkpoint was never written, so it has no files to hash; save it first")
        return hash_folder(self.path, {part: _part_folder(self.path, part, self.config) for part in self.config.parts})


# --- reading ------------------------------------------------------------------------------------------


def load_checkpoint(path: Path | str, dtype: torch.dtype = torch.float32, *, llm_as_stored: bool = False) -> Checkpoint:
    """Read a checkpoint folder.

    Args:
        path: The folder, or the training output folder that holds it as `model/`.
        dtype: Of the weights in memory.
        llm_as_stored: The decoder's weights keep the files' dtype and are mapped, so they take no memory of their own.

    Returns:
        The checkpoint with its model in evaluation mode.

    Raises:
        CheckpointError: A part, file or tensor is missing or damaged, or parts contradict each other.
    """
    root = checkpoint_root(Path(path))
    config = read_config(read_json(root / CONFIG), str(root / CONFIG))
    folders = {part: _part_folder(root, part, config) for part in config.parts}
    part_configs = {part: read_json(folder / CONFIG) for part, folder in folders.items()}
    tokenizer_files = read_tokenizer(folders["llm"])
    part_configs["llm"]["vocab_size"] = len(tokenizer_files.tokenizer)
    modules: dict[str, Any] = {}
    file_dtypes: dict[str, torch.dtype] = {}
    for part, folder in folders.items():
        weights = PartTensors(folder)
        if part.endswith("tower"):
            part_configs[part]["vision_use_head"] = tower_has_head(weights.names)
        module = build_part(part, config, part_configs, str(folder))
        file_dtypes[part] = _load_part(module, weights, None if llm_as_stored and part == "llm" else dtype)
        modules[part] = module
    model = assemble(modules, config, tokenizer_files.tokenizer).eval()
    return Checkpoint(
        model=model,
        tokenizer_files=tokenizer_files,
        config=config,
        part_configs=part_configs,
        preprocessors={p: read_json(f / PREPROCESSOR) for p, f in folders.items() if p.endswith("tower")},
        generation_config=_read_optional(folders["llm"] / GENERATION),
        file_dtypes=file_dtypes,
        path=root,
    )


def checkpoint_root(path: Path) -> Path:
    """The folder with config.json: the one named, or the `model/` of a training's output.

    Raises:
        CheckpointError: There is no such folder.
    """
    nested = path / "model"
    root = nested if nested.is_dir() else path
    if not root.is_dir():
        raise CheckpointError(f"no checkpoint at {path}: there is no such folder")
    return root


def _part_folder(root: Path, part: str, config: ModelConfig) -> Path:
    folder = root / config.folders.get(part, part)  # an absolute path stands for itself
    if not folder.is_dir():
        found = sorted(p.name for p in root.iterdir() if p.is_dir())
        raise CheckpointError(f"{root / CONFIG} names the part {part}, but {folder} does not exist; {root} has {found}")
    return folder


def _read_optional(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _load_part(module: Any, weights: PartTensors, dtype: torch.dtype | None) -> torch.dtype:
    """Give a module built on the meta device its tensors, in their own dtype if None; returns the file's dtype."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tied = _is_tied(module)
    if tied:
        check_tied_head(weights)
        expected.pop("lm_head.weight")
    _check_names_and_shapes(expected, weights, ignored=("lm_head.weight",) if tied else ())
    # converted one by one: the file's tensors and the model's never lie in memory together
    tensors: dict[str, torch.Tensor] = {}
    file_dtypes: set[torch.dtype] = set()
    for name, tensor in weights.read(frozenset(expected)):
        file_dtypes.add(tensor.dtype)
        kept = fit_rows(tensor, expected[name][0]) if name in EMBEDDING_NAMES else tensor
        tensors[name] = kept if dtype is None else kept.to(dtype)
    module.load_state_dict(tensors, assign=True, strict=not tied)
    if tied:
        module.tie_weights()
    return reduce(torch.promote_types, file_dtypes)  # the one that holds all of them without loss


def _is_tied(module: Any) -> bool:
    return hasattr(module, "lm_head") and bool(module.config.tie_word_embeddings)


def _check_names_and_shapes(
    expected: Mapping[str, tuple[int, ...]], weights: PartTensors, ignored: tuple[str, ...]
) -> None:
    found = weights.shapes()
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise CheckpointError(f"{weights.folder} lacks {len(missing)} tensors its config calls for: {missing[:5]}")
    strange = sorted(n for n in found.keys() - expected.keys() if n not in ignored and not n.endswith(_COMPUTED))
    if strange:
        raise CheckpointError(
            f"{weights.folder} holds {len(strange)} tensors its config does not call for: {strange[:5]}; "
            "is it the config.json of another model?"
        )
    for name, shape in expected.items():
        rows_may_differ = name in EMBEDDING_NAMES and found[name][1:] == shape[1:]
        if found[name] != shape and not rows_may_differ:
            raise CheckpointError(
                f"{weights.folder}: {name} has shape {list(found[name])}, the configs ask for {list(shape)}"
            )


# --- writing ------------------------------------------------------------------------------------------


def save_checkpoint(
    checkpoint: Checkpoint,
    path: Path | str,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint folder; an older checkpoint there is replaced in one move.

    Args:
        checkpoint: What to write; its model's weights as they are now.
        path: The folder.
        dtype: Of the tensors on disk; None: of the files the checkpoint was read from.
        max_shard_bytes: Largest size of one weight file.
        weights: To write in place of the model's, by their names in the model: of a model that is spread over
            processes, merged with adapters, or made one by one.

    Raises:
        CheckpointError: The path holds something that is no checkpoint.
        StorageError: Disk full or not writable; what was there is untouched.
    """
    out = Path(path)
    _refuse_to_replace_other_things(out)
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.partial-"))
        try:
            _write_into(staging, checkpoint, dtype, max_shard_bytes, weights)
            staging.chmod(0o755)  # mkdtemp made it private
            replace_folder(staging, out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _write_into(
    folder: Path,
    checkpoint: Checkpoint,
    dtype: torch.dtype | None,
    max_shard_bytes: int,
    weights: Mapping[str, torch.Tensor] | None,
) -> None:
    for part in checkpoint.config.parts:
        part_dtype = dtype or checkpoint.file_dtypes[part]
        (folder / part).mkdir()
        _write_part(folder / part, part, checkpoint, part_dtype)
        state = {name: tensor.to(part_dtype) for name, tensor in _state_of(part, checkpoint, weights)}
        write_tensors(folder / part, state, max_shard_bytes=max_shard_bytes)
    for name, content in checkpoint.tokenizer_files.files.items():
        (folder / "llm" / name).write_bytes(content)
    if checkpoint.generation_config is not None:
        write_json(folder / "llm" / GENERATION, checkpoint.generation_config)
    write_json(folder / CONFIG, checkpoint.config.to_json(checkpoint.part_configs))


def _write_part(folder: Path, part: str, checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    config = {k: v for k, v in checkpoint.part_configs[part].items() if k != "_name_or_path"}
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    write_json(folder / CONFIG, config)
    if part in checkpoint.preprocessors:
        write_json(folder / PREPROCESSOR, checkpoint.preprocessors[part])


def _state_of(
    part: str, checkpoint: Checkpoint, weights: Mapping[str, torch.Tensor] | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a part as files hold them, one by one: given weights may be made when they are asked for."""
    module = getattr(checkpoint.model, part)
    prefix = "" if weights is None else f"{part}."
    state = module.state_dict() if weights is None else weights
    for name in (n for n in state if n.startswith(prefix)):
        inner = name.removeprefix(prefix)
        if not (_is_tied(module) and inner == "lm_head.weight"):
            yield inner, state[name]


def _refuse_to_replace_other_things(out: Path) -> None:
    check_target(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise CheckpointError(f"{out} is a file; choose a folder for the checkpoint")
    foreign = sorted(p.name for p in out.iterdir() if p.name not in {CONFIG, *PARTS})
    if foreign:
        raise CheckpointError(
            f"{out} holds {foreign[:5]}, which are no parts of a checkpoint and would be lost; "
            "choose a new folder or the checkpoint's own"
        )
