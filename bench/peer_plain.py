"""The plain peer's bundle: what onnxruntime's own quantizer makes of an export that nobody looked at.

    python -m bench.peer_plain BUNDLE OUT

BUNDLE has the encoders as exported; its decoder goes along. Each graph goes through `quantize_dynamic` as its
documentation shows it. Only products are quantized: with the default list of operators the patch convolution becomes a
ConvInteger that onnxruntime's processor backend cannot run. This is a program of its own, run by `bench.peers`, and the
one module of bench that enters onnxruntime; it measures nothing.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_runtime.bundle import GOLDEN, Bundle, BundleWriter, manifest_sha256, open_bundle
from edge_runtime.errors import BundleInvalid, ConfigError, EdgeError
from edge_runtime.manifest import FileEntry
from hardware.storage import storage_errors

RECIPE = "peer-plain-int8"
OPERATORS = ("MatMul", "Gemm")


def plain_bundle(source: Path, out: Path) -> Bundle:
    """Write the bundle.

    Raises:
        BundleError: The source is not whole.
        BundleInvalid: onnxruntime's quantizer refuses a graph.
        ConfigError: A package is missing.
        StorageError: Disk full or not writable.
    """
    bundle = open_bundle(source)
    with BundleWriter(out) as writer:
        for name in bundle.manifest.files:
            if name.endswith(".onnx"):
                _quantize(bundle.file(name), writer.path / name)
            elif not name.endswith(".data") and name != GOLDEN:  # golden values are of the full-precision encoders
                with storage_errors(writer.path):
                    shutil.copyfile(bundle.file(name), writer.path / name)
        lineage = replace(bundle.manifest.lineage, parent_sha256=manifest_sha256(bundle.path))
        files: dict[str, FileEntry] = {}
        return writer.finish(
            replace(bundle.manifest, name=RECIPE, recipe=RECIPE, lineage=lineage, tolerances={}, files=files)
        )


def _quantize(source: Path, target: Path) -> None:
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ConfigError(f"onnxruntime's quantizer cannot be loaded ({error}): pip install onnx") from error
    logging.getLogger().setLevel(logging.ERROR)  # it advises to optimise first, which is what is not done here
    try:
        quantize_dynamic(source, target, op_types_to_quantize=list(OPERATORS), weight_type=QuantType.QInt8)
    except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        raise BundleInvalid(f"onnxruntime's quantizer refuses {source}: {error}") from error


def main(arguments: Sequence[str]) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer_plain", description="The plain peer's bundle.")
    parser.add_argument("bundle", type=Path, help="encoders as exported")
    parser.add_argument("out", type=Path, help="bundle folder to write")
    options = parser.parse_args(arguments)
    try:
        plain_bundle(options.bundle, options.out)
    except EdgeError as error:
        sys.stderr.write(f"{error}\n".replace("\n", " ").strip() + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
