"""What is refused before any work: a parent that is quantized already, a place that will not do, too small a disk."""

import shutil
from pathlib import Path

from edge_runtime.bundle import DECODER, PREFILL, Bundle
from edge_runtime.errors import BundleInvalid, ConfigError, StorageError
from quantize.encoder_files import encoder_graphs
from quantize.recipes import ENCODER_RATIO, Recipe, decoder_bits


def refuse_overwriting(parent: Path, out: Path) -> None:
    """Refuse a destination that is the parent, lies in it, or holds it.

    Raises:
        ConfigError: It does.
    """
    source, target = parent.resolve(), out.resolve()
    if target == source or source in target.parents or target in source.parents:
        raise ConfigError(f"{out} and the bundle {parent} lie in each other; choose another folder for the new bundle")


def check_parent(parent: Bundle, recipe: Recipe) -> None:
    """Refuse a parent that is no full-precision bundle.

    Raises:
        BundleInvalid: It is quantized, and the recipe does not allow that.
    """
    if parent.manifest.lineage.parent_sha256 is not None and not recipe.requantize:
        raise BundleInvalid(
            f"{parent.path} is quantized already (recipe {parent.manifest.recipe!r}); quantizing it again would add "
            "the errors up. Use the full-precision bundle that `roborefer-edge export` wrote."
        )


def expected_bytes(parent: Bundle, recipe: Recipe) -> int:
    """About how large the result will be."""
    entries = parent.manifest.files
    stored_bits = 32.0 if parent.manifest.recipe == "fp32" else 16.0
    decoder = entries[DECODER].bytes * decoder_bits(recipe) / stored_bits
    graphs = encoder_graphs(parent)
    encoders = sum(e.bytes for n, e in entries.items() if n.removesuffix(".data") in graphs)
    others = sum(e.bytes for n, e in entries.items() if n.removesuffix(".data") not in {*graphs, PREFILL, DECODER})
    return round(decoder + encoders * ENCODER_RATIO[recipe.encoders] + others)


def check_space(parent: Bundle, recipe: Recipe, folder: Path) -> None:
    """Refuse early when the disk cannot hold the bundle, rather than after hours.

    Raises:
        StorageError: Too little space.
    """
    needed, free = expected_bytes(parent, recipe), shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the bundle takes about {needed / 2**20:.0f} MiB, {folder.parent} has {free / 2**20:.0f} MiB free. Free "
            "some space or choose another folder; nothing that was there before has been changed."
        )
