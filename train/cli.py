"""`roborefer-edge train ...`: flags and output of the data and training verbs.

Nothing heavy is imported until the work really starts, so that help stays quick.
"""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Make data and train models."""
