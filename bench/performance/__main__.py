r"""Measure everything about speed and write the page: `python -m bench.performance WORK --page docs/performance.md`.

    python -m bench.performance runs/performance --small models/nano/bundle --small-checkpoint models/nano/checkpoint \
        --large BUNDLE --large-export EXPORT --large-checkpoint CHECKPOINT --plain-python VENV/bin/python \
        --page docs/performance.md

Each step keeps its JSON file in WORK; a step that has one is not done again. A bundle of the 2B's shape comes from
`python -m train.seeded CHECKPOINT --variant shape_2b`, `export` and `quantize`, or from `bench synthetic`. Nothing else
should run meanwhile. The peers and tiles of a large bundle take longest; `--quick` is a try-out with nano alone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.performance.page import figures, page
from bench.performance.plan import STEPS, Plan, measure, read_all
from edge_runtime.bundle import shipped_bundle
from edge_runtime.errors import EdgeError
from edge_runtime.terminal import say
from hardware.storage import whole_file

DATA = "performance.json"  # beside the page, which is made from it


def write(found: dict[str, object], page_path: Path) -> None:
    """Write the page, its figures and the data they are made from.

    Raises:
        StorageError: Not writable.
    """
    for path, text in {
        page_path.with_name(DATA): json.dumps(found, indent=1) + "\n",
        page_path: page(found),
        **{page_path.with_name(name): svg for name, svg in figures(found).items()},
    }.items():
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m bench.performance", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", type=Path, help="folder for what is measured")
    parser.add_argument("--page", type=Path, help="Markdown file to write")
    parser.add_argument("--only", nargs="+", default=[], help=f"of {', '.join(STEPS)}")
    parser.add_argument("--small", type=Path, help="bundle of nano; default: the shipped one")
    for name in ("small-checkpoint", "small-export", "large", "large-checkpoint", "large-export", "plain-python"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = vars(parser.parse_args(arguments))
    page_path, only = options.pop("page"), tuple(options.pop("only"))
    plan = Plan(**{**options, "small": options["small"] or shipped_bundle()})
    try:
        measure(plan, only=only, on_step=say)
        if page_path is not None:
            write(read_all(plan.work), page_path)
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
