"""`roborefer-edge quantize`: flags, progress and output; the work is in the modules it names.

Nothing heavy is imported until the work really starts, so that help stays quick.
"""

from pathlib import Path
from typing import Annotated

import typer


def quantize(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Full-precision bundle, as export writes it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Bundle folder to write; an older bundle is replaced.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe.")] = "cpu-int8",
) -> None:
    """Turn a bundle into a smaller one."""
    raise NotImplementedError((bundle, out, recipe))
