"""Our decoder, asked as `decoder_plain` asks: `python -m bench.performance.decoder_ours BUNDLE ROWS TOKENS`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.worker import ended, tell
from edge_runtime.bundle import DECODER, open_bundle
from edge_runtime.decoder import Decoder
from edge_runtime.errors import InferenceError
from edge_runtime.native_check import decoder_verdict
from edge_runtime.prefill import Prefill
from edge_runtime.records import TokenSegment


def work(folder: Path, rows: int, tokens: int) -> None:
    """Answer twice; the second time counts. Every token is a step of its own, as there."""
    bundle = open_bundle(folder)
    path, chance = bundle.file(DECODER), np.random.default_rng(0)
    extra = decoder_verdict(path).use_extra_bufts
    stops, reader = bundle.manifest.tokens.stop, Prefill.open(bundle)
    with Decoder.open(path, stop_ids=stops, use_extra_bufts=extra, reader=reader) as decoder:
        decoder.drafts = False
        for _ in range(2):
            prompt = TokenSegment(chance.integers(100, 500, rows).astype(np.int32))
            started_s = time.perf_counter()
            said = decoder.generate([prompt], max_tokens=tokens)
            total_s = time.perf_counter() - started_s
        if len(said.token_ids) != tokens:
            raise InferenceError(
                f"the answer has {len(said.token_ids)} tokens, asked were {tokens}: it stopped by itself"
            )
        settings = decoder.settings
    tell(
        "done",
        prefill_s=total_s - said.decode_ms / 1e3,
        decode_s=said.decode_ms / 1e3,
        decode_threads=settings.n_threads,
        prefill_threads=settings.n_prefill_threads,
        extra_buffers=extra,
    )


def main(arguments: Sequence[str]) -> int:
    """Command line of this module."""
    folder, rows, tokens = arguments
    return ended(lambda: work(Path(folder), int(rows), int(tokens)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
