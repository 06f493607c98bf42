"""The child process of edge_runtime/native_check.py: drive llama.cpp through a model for a few tokens.

Run as `python -m edge_runtime.native_probe MODEL.gguf on|off`. It may crash: that is what it is for. It
ends with 0 if all logits were finite, otherwise with a status of native_check.py and a line on stderr.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from edge_runtime.decoder import Decoder
from edge_runtime.errors import BundleError, InferenceError
from edge_runtime.native_check import BAD_FILE_STATUS, FAILED_STATUS
from edge_runtime.records import EmbedSegment, TokenSegment

ROWS = 40  # enough for the kernels that work on many rows at once
STEPS = 4  # and a few of those that work on one


def main(arguments: list[str]) -> int:
    """Probe the model named in the arguments; returns the exit status."""
    path, extra_bufts = Path(arguments[0]), arguments[1] == "on"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected: leave no core file behind
    try:
        with Decoder.open(path, stop_ids=(), use_extra_bufts=extra_bufts) as decoder:
            _drive(decoder)
    except (BundleError, InferenceError) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_FILE_STATUS if isinstance(error, BundleError) else FAILED_STATUS
    return 0


def _drive(decoder: Decoder) -> None:
    """Token rows, embedding rows and single steps; the decoder itself refuses logits that are not finite."""
    random = np.random.default_rng(0)
    ids = np.arange(ROWS, dtype=np.int32) % decoder.vocab_size
    embeds = random.normal(scale=0.02, size=(ROWS, decoder.width)).astype(np.float32)
    decoder.generate([TokenSegment(ids), EmbedSegment(embeds)], max_tokens=STEPS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
