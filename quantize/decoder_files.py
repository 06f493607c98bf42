"""The decoder of a bundle as a recipe says: llama.cpp's quantizer, with an importance matrix or GPTQ where asked.

GPTQ's results are exact on the grid of Q4_0: llama.cpp first writes the whole file, and the blocks of the compensated
weights are then put where its own were. Hessians are collected in passes, so memory holds those of a few layers only.
"""

import logging
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.errors import DataError
from hardware.storage import storage_errors
from quantize.activation_sums import ActivationSums, collect, hessian_passes, imatrix_of
from quantize.gguf_quants import quantize_decoder
from quantize.gguf_tensors import GgufFile, put_packed
from quantize.gptq import gptq, round_to_nearest, weighed_error
from quantize.gptq_import import import_gptq
from quantize.imatrix import Imatrix, write_imatrix
from quantize.int4 import GGUF_BLOCK, pack_q4_0
from quantize.prompts import CalibrationPrompt
from quantize.recipes import Recipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompensatedWeight:
    """What GPTQ gained on one weight: energy of the error in its products over that of the products."""

    name: str
    error_nearest: float  # rounded to nearest
    error: float


@dataclass(frozen=True)
class DecoderGiven:
    """What was made elsewhere and is used instead of looking ourselves."""

    imatrix: Imatrix | None = None
    gptq_checkpoint: Path | None = None  # its 4-bit weights are taken over as they are

    def needs_prompts(self, recipe: Recipe) -> bool:
        """Whether the decoder is still to be watched."""
        if self.gptq_checkpoint is not None or recipe.decoder_method == "plain":
            return False
        return recipe.decoder_method == "gptq" or self.imatrix is None


@dataclass(frozen=True)
class DecoderOutcome:
    """What became of the decoder."""

    imatrix: Imatrix | None = None
    compensated: tuple[CompensatedWeight, ...] = ()
    imported: tuple[str, ...] = ()  # weights taken over from a GPTQ checkpoint


def write_decoder(
    parent: Bundle,
    target: Path,
    recipe: Recipe,
    prompts: Sequence[CalibrationPrompt],
    *,
    source_name: str = "",
    given: DecoderGiven = DecoderGiven(),
) -> DecoderOutcome:
    """Write the decoder of a bundle in a recipe's type.

    Args:
        parent: The full-precision bundle.
        target: The file to write.
        recipe: Type and method.
        prompts: What to watch the decoder on; empty if the recipe looks at nothing.
        source_name: Of the calibration data, kept in the importance matrix.
        given: Importance matrix or GPTQ weights from elsewhere; beside the latter, the recipe's type is for the others.

    Raises:
        CheckpointError: The GPTQ checkpoint does not fit, or cannot be stored without loss.
        DataError: The calibration data or the importance matrix does not fit the model.
        InferenceError: llama.cpp failed.
        StorageError: Disk full or not writable.
    """
    source = parent.file(DECODER)
    finer = dict.fromkeys(_of_kinds(source, recipe.decoder_q8), "Q8_0")
    if given.gptq_checkpoint is not None:
        imported = import_gptq(parent, given.gptq_checkpoint, target, recipe.decoder, finer)
        return DecoderOutcome(imported=imported)
    if recipe.decoder == "F16" and parent.manifest.recipe != "fp32":
        with storage_errors(target):
            shutil.copyfile(source, target)
        return DecoderOutcome()
    if recipe.decoder_method == "plain" and given.imatrix is None:
        quantize_decoder(source, target, recipe.decoder, overrides=finer, requantize=recipe.requantize)
        return DecoderOutcome()
    sums = collect(source, prompts) if given.needs_prompts(recipe) else None
    matrix = given.imatrix or imatrix_of(_required(sums), prompts, source_name)
    _check_fits(matrix, source)
    weights = _compensable(source, without=finer) if recipe.decoder_method == "gptq" else ()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".imatrix-") as folder:
        file = Path(folder) / "imatrix.gguf"
        write_imatrix(file, matrix)
        overrides = {**finer, **dict.fromkeys(weights, "Q4_0")}
        quantize_decoder(
            source, target, recipe.decoder, imatrix=file, overrides=overrides, requantize=recipe.requantize
        )
    compensated = _compensate(source, target, weights, prompts, _required(sums)) if weights else ()
    return DecoderOutcome(matrix, compensated)


def _required(sums: ActivationSums | None) -> ActivationSums:
    assert sums is not None, "collected above"
    return sums


def _check_fits(imatrix: Imatrix, source: Path) -> None:
    """llama.cpp ends the process when a vector has another length than its weight is wide.

    Raises:
        DataError: Names the first weight that does not fit.
    """
    widths = {tensor.name: tensor.shape[-1] for tensor in GgufFile(source).tensors if len(tensor.shape) == 2}
    for name, sums in imatrix.entries.items():
        if name in widths and len(sums.squares) != widths[name]:
            raise DataError(
                f"the importance matrix is of another model: {name!r} is {widths[name]} wide, the matrix says "
                f"{len(sums.squares)}. Collect one for this bundle."
            )
    if not set(widths) & set(imatrix.entries):
        raise DataError("the importance matrix is of another model: it names no weight of this decoder")


def _of_kinds(source: Path, kinds: Sequence[str]) -> tuple[str, ...]:
    """Weights of some kinds, as `attn_q` is one; widths that no block divides are llama.cpp's to decide."""
    if not kinds:
        return ()
    tensors = {t.name: t for t in GgufFile(source).tensors if len(t.shape) == 2}
    tied = "output.weight" not in tensors  # the head is the embedding
    wanted = {*kinds, "token_embd"} if tied and "output" in kinds else set(kinds)
    return tuple(n for n, t in tensors.items() if n.split(".")[-2] in wanted and not t.shape[1] % GGUF_BLOCK)


def _compensable(source: Path, *, without: Collection[str] = ()) -> tuple[str, ...]:
    """Weights of the layers whose width the block divides; others stay as llama.cpp rounds them."""
    tensors = [t for t in GgufFile(source).tensors if t.name not in without]
    layers = [t for t in tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    odd = [t.name for t in layers if t.shape[1] % GGUF_BLOCK]
    if odd:
        _log.warning("%d weights are no multiple of %d wide and stay without GPTQ: %s", len(odd), GGUF_BLOCK, odd[:3])
    return tuple(t.name for t in layers if not t.shape[1] % GGUF_BLOCK)


def _compensate(
    source: Path, target: Path, weights: Sequence[str], prompts: Sequence[CalibrationPrompt], sums: ActivationSums
) -> tuple[CompensatedWeight, ...]:
    original = GgufFile(source)
    done: list[CompensatedWeight] = []
    for group in hessian_passes(sums, weights):
        watched = collect(source, prompts, hessians_for=frozenset(group.values()))
        for name in group:
            weight, hessian = original.values(name), watched.hessian(name)
            rounded = gptq(weight, hessian, GGUF_BLOCK, half=True, name=name)
            nearest = round_to_nearest(weight, GGUF_BLOCK, half=True)
            with storage_errors(target):
                put_packed(target, {name: pack_q4_0(rounded.values, rounded.scales)}, "Q4_0")
            errors = (weighed_error(weight, found.restored(), hessian) for found in (nearest, rounded))
            done.append(CompensatedWeight(name, *errors))
    return tuple(done)
