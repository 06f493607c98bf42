"""Runs the real command line inside the test process and gives back what a shell would see."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

from edge_runtime import cli
from tests.conftest import REPOSITORY


@dataclass(frozen=True)
class Outcome:
    """What a shell sees of one command."""

    code: int
    out: str
    err: str

    @property
    def last_json(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        found = json.loads(self.out.strip().splitlines()[-1])
        assert isinstance(found, dict)
        return found


def keeps_schema(record: dict[str, Any], name: str) -> None:
    """Fail unless a record is what docs/schema says this verb prints."""
    jsonschema.validate(record, json.loads((REPOSITORY / "docs/schema" / f"{name}.json").read_text()))


class Shell:
    """Calls `roborefer-edge` with arguments."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object) -> Outcome:
        """Run one command to its end."""
        self._monkeypatch.setattr(sys, "argv", ["roborefer-edge", *map(str, arguments)])
        self._capsys.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code
        out, err = self._capsys.readouterr()
        return Outcome(code=code if isinstance(code, int) else 0 if code is None else 1, out=out, err=err)
