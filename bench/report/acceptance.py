"""The chapter about `bench accept`: yes or no, and what each step found."""

from bench.report.chapters import Chapter
from bench.report.found import Found
from bench.report.tables import Table
from bench.report.wording import number


def acceptance_chapter(found: Found) -> Chapter | None:
    """The answer and the steps that led to it; None if nothing was to be accepted."""
    words: list[str] = []
    tables: list[Table] = []
    for source in found.of("bench_accept"):
        with source.reading() as data:
            answer = "Yes" if data["accepted"] else "No"
            words.append(f"{answer}: {data['reason']}.")
            words.append(f"Checkpoint {data['checkpoint']}, recipe {data['recipe']}, reference {data['reference']}.")
            rows = tuple(
                (step["name"], "ok" if step["ok"] else "FAILED", step["detail"], number(step["duration_s"], 1))
                for step in data["steps"]
            )
            tables.append(Table(("step", "", "found", "s"), rows, text_columns=3))
    return Chapter("accepted", "Accepted?", tuple(words), (), tuple(tables)) if tables else None
