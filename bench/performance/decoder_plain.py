"""What a plain `pip install llama-cpp-python` gives: run by an interpreter that has it, and nothing of ours.

    python decoder_plain.py GGUF_FOLDER ROWS TOKENS

Prints one JSON line. Prompts are random ids, another one each time, so that no prefix is found again.
"""

import json
import pathlib
import random
import sys
import time


def main() -> None:
    """Answer twice; the second time counts."""
    import llama_cpp

    folder, rows, tokens = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    model = llama_cpp.Llama(str(folder / "decoder.gguf"), n_ctx=1024, verbose=False)
    chance = random.Random(0)
    for _ in range(2):
        prompt = [chance.randrange(100, 500) for _ in range(rows)]
        started_s = time.perf_counter()
        answer = model.generate(prompt, temp=0.0)
        next(answer)
        first_s = time.perf_counter()
        for _ in range(tokens - 1):
            next(answer)
        done_s = time.perf_counter()
    told = {
        "prefill_s": first_s - started_s,
        "decode_s": done_s - first_s,
        "version": llama_cpp.__version__,
        "decode_threads": model.n_threads,
        "prefill_threads": model.n_threads_batch,
        "build": llama_cpp.llama_print_system_info().decode(),
    }
    sys.stdout.write(json.dumps(told) + "\n")


main()
