"""The decoder in another GGUF type, by llama.cpp's own quantizer, run in a child process.

A child, because native code can neither be interrupted nor caught when it crashes; killed or failed, it leaves no file.
llama.cpp decides per tensor what a type means (the `_M` types keep some tensors larger) and replaces K-quants where
a width is no multiple of 256: which types came out is for `gguf_tensors.py` to say, not for this module to promise.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from edge_runtime.errors import ConfigError, InferenceError
from hardware.child import run_module
from hardware.storage import whole_file

DecoderType = Literal["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS"]
DECODER_TYPES: tuple[str, ...] = get_args(DecoderType)

_CHILD = "quantize.native_quantize"
_LIMIT_S = 4 * 3600.0  # IQ4_XS of an 8B model takes the better part of an hour on two cores


@dataclass(frozen=True)
class GgufJob:
    """What the child is asked to do; it arrives there as JSON."""

    source: str
    target: str
    type: str
    imatrix: str | None = None  # file in llama.cpp's imatrix format
    requantize: bool = False  # accept a source that is already quantized
    n_threads: int = 0  # 0: one per core
    # tensor name -> GGUF type, for tensors that are to be stored otherwise
    overrides: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def quantize_decoder(
    source: Path,
    target: Path,
    type_name: DecoderType,
    *,
    imatrix: Path | None = None,
    overrides: dict[str, str] | None = None,
    requantize: bool = False,
    timeout_s: float = _LIMIT_S,
) -> None:
    """Write a decoder in another type.

    Args:
        source: A GGUF file in F16 or F32.
        target: The file to write; it appears whole or not at all.
        type_name: What llama.cpp calls the mix of types.
        imatrix: Importance matrix file; without one every input channel counts the same.
        overrides: Tensors that are to have another type.
        requantize: Accept a source that is already quantized.
        timeout_s: The child is stopped then.

    Raises:
        ConfigError: No such type.
        InferenceError: llama.cpp refused, crashed or took too long.
        StorageError: Disk full or not writable.
    """
    if type_name not in DECODER_TYPES:
        raise ConfigError(f"no decoder type {type_name!r}; there are {', '.join(DECODER_TYPES)}")
    with whole_file(target) as partial:
        job = GgufJob(
            source=str(source.resolve()),
            target=str(partial.resolve()),
            type=type_name,
            imatrix=None if imatrix is None else str(imatrix.resolve()),
            requantize=requantize,
            overrides=overrides or {},
        )
        child = run_module(_CHILD, job.to_json(), timeout_s=timeout_s)
        if child.timed_out:
            raise InferenceError(f"llama.cpp did not finish {type_name} of {source} within {timeout_s:g} s")
        if child.returncode != 0:
            raise InferenceError(
                f"llama.cpp could not quantize {source} to {type_name} (status {child.returncode}): {child.last_words}"
            )
