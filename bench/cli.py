"""`roborefer-edge bench ...`: flags and output of the measuring verbs; the work is in the modules they name.

Nothing heavy is imported until a measurement really starts, so that help stays quick.
"""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Measure accuracy and speed of a bundle against the full-precision reference."""
