"""Parts of bundles that were made before in the same run: a search tries the same encoders with many decoders.

Without a folder nothing is kept and everything is made anew, which is how a single recipe runs.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from edge_runtime.bundle import DECODER
from quantize.decoder_files import DecoderOutcome
from quantize.encoder_static import EncoderOutcome
from quantize.prompts import CalibrationPrompt
from quantize.recipes import Recipe

Encoders = dict[str, EncoderOutcome]
Prompts = tuple[CalibrationPrompt, ...]


class Parts:
    """Remembers encoders, decoders and prompts by the settings they depend on.

    Args:
        folder: Where files are kept; None: nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._encoders: dict[str, Encoders] = {}
        self._decoders: dict[str, DecoderOutcome] = {}
        self._prefill: Encoders = {}
        self._prompts: dict[int | None, Prompts] = {}

    def encoders(self, recipe: Recipe, into: Path, make: Callable[[Path], Encoders]) -> Encoders:
        """Encoders under a recipe, in a folder; made there by `make` unless they were before."""
        if self._folder is None:
            return make(into)
        settings = (
            recipe.encoders, recipe.ranges, recipe.smooth, recipe.budget_db, recipe.block, recipe.int4_method,
            recipe.max_tiles, recipe.for_tensorrt,
        )  # fmt: skip
        key = "-".join(map(str, settings))
        place = self._folder / f"encoders-{key}"
        if key not in self._encoders:
            place.mkdir()
            self._encoders[key] = make(place)
        for file in place.iterdir():
            link(file, into / file.name)
        return self._encoders[key]

    def decoder(self, recipe: Recipe, into: Path, make: Callable[[Path], DecoderOutcome]) -> DecoderOutcome:
        """The decoder under a recipe, as a file in a folder."""
        if self._folder is None:
            return make(into / DECODER)
        key = "-".join([recipe.decoder, recipe.decoder_method, *recipe.decoder_q8, str(recipe.max_tiles)])
        place = self._folder / f"decoder-{key}.gguf"
        if key not in self._decoders:
            self._decoders[key] = make(place)
        link(place, into / DECODER)
        return self._decoders[key]

    def prefill(self, recipe: Recipe, into: Path, make: Callable[[Path], Encoders]) -> Encoders:
        """The graph that reads prompts, in a folder, if the recipe wants one; it depends on nothing else."""
        if not recipe.prefill or self._folder is None:
            return make(into) if recipe.prefill else {}
        place = self._folder / "prefill"
        if not place.exists():
            place.mkdir()
            self._prefill = make(place)
        for file in place.iterdir():
            link(file, into / file.name)
        return self._prefill

    def prompts(self, recipe: Recipe, make: Callable[[], Prompts]) -> Prompts:
        """The parent's answers under a recipe's tile budget."""
        if self._folder is None:
            return make()
        if recipe.max_tiles not in self._prompts:
            self._prompts[recipe.max_tiles] = make()
        return self._prompts[recipe.max_tiles]


def link(file: Path, name: Path) -> None:
    """Another name for a file, or a copy where the file system knows no second names."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)
