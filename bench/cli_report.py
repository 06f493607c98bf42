"""The verbs that put measurements together: flags and output; the work is in the modules they name."""

from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.cli import AsJson


def report(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Holds the JSON files of the other verbs, at any depth.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write: one HTML file, nothing beside it.")] = None,
    md: Annotated[Path | None, typer.Option(help="The results table to write, as Markdown.")] = None,
    readme: Annotated[
        Path | None, typer.Option(help="Fill the place between `<!-- results: FOLDER -->` and its end in this file.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page; default: who was measured.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Most pictures of flipped questions per comparison.")] = 12,
    as_json: AsJson = False,
) -> None:
    """One page, or one table, of everything that was measured."""
    from bench.report.verb import ReportRequest, make, table_of
    from edge_runtime.terminal import say, say_json

    done = make(ReportRequest(folder, html=out, markdown=md, readme=readme, title=title, pictures=pictures))
    if as_json:
        say_json(done)
        return
    written = [done[kind] for kind in ("html", "markdown", "readme") if done[kind]]
    if folder is not None and not written:
        say(table_of(folder).rstrip())
    for path in written:
        say(f"written: {path}")
    for command in done["missing"]:
        say(f"not in it: {command}")
