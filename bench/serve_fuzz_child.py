"""The process in which the fuzzer runs: `python -m bench.serve_fuzz_child FOLDER SECONDS`.

Nothing that is to be watched may be imported before the fuzzer has put its eyes in, hence a module of its own.
"""

import importlib
import sys
from pathlib import Path

LONGEST_INPUT = 64 * 1024  # bytes
_MEMORY_MIB = 3072
_SLOWEST_S = 20
_WATCHED = ["PIL", "edge_runtime", "numpy.lib"]
# Pillow imports the reader of a format when it first sees one; these are the ones the decoder admits.
_READERS = ("Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP")


def main() -> None:
    """Fuzz until the time is over or something is found; the fuzzer ends the process itself."""
    folder, seconds = Path(sys.argv[1]), int(sys.argv[2])
    atheris = importlib.import_module("atheris")  # of an extra that no other module needs
    with atheris.instrument_imports(include=_WATCHED):
        decode = importlib.import_module("bench.serve_fuzz").decode
        importlib.import_module("numpy.lib.format")
        for reader in _READERS:
            importlib.import_module(f"PIL.{reader}ImagePlugin")
    flags = [
        f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-rss_limit_mb={_MEMORY_MIB}",
        f"-timeout={_SLOWEST_S}", f"-artifact_prefix={folder}/found-", "-print_final_stats=1", str(folder / "seeds"),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags], decode)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
