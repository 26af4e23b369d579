"""How GitHub Actions is told: annotations in the log, a table on the summary page of the job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steer.analysis.expectations import Verdict, finding_text
from steer.analysis.suite import Ended
from steer.report.outcomes import HEADER, outcome_row
from steer.report.visible import log_text, shortened

SHOWN = 10
"""GitHub shows ten errors of a step."""
ROWS = 1000
"""Rows of the table: the page holds 1 MiB."""
MARKS = re.compile(r"([\\`*_\[\]|~])")
LONGEST = 300
WORST_FIRST = ("did not run", "incomplete", "fail", "inconclusive")


@dataclass(frozen=True)
class Annotation:
    """One error, at a line of an experiment file."""

    file: str
    line: int
    title: str
    text: str

    def command(self) -> str:
        """The log line that makes the annotation: `::error file=...,line=...,title=...::text`."""
        properties = f"file={_property(self.file)},line={self.line},title={_property(self.title)}"
        return f"::error {properties}::{_data(log_text(self.text))}"


def error_lines(ended: Sequence[Ended], root: Path) -> tuple[str, ...]:
    """The worst ten as log lines; files are named from `root`, the folder of the checkout."""
    ranked = sorted(_all(ended, root), key=lambda ranked: WORST_FIRST.index(ranked[0]))
    return tuple(annotation.command() for _, annotation in ranked[:SHOWN])


def _all(ended: Sequence[Ended], root: Path) -> Iterator[tuple[str, Annotation]]:
    for one in ended:
        file = from_root(one.path, root)
        for problem in one.problems[:1]:
            more = f" (and {len(one.problems) - 1} more)" if len(one.problems) > 1 else ""
            yield one.worst, Annotation(file, 1, f"{one.name} {one.worst}", problem + more)
        for verdict in one.verdicts:
            if verdict.verdict != "pass":
                title = f"{one.name}: {verdict.id} {verdict.verdict}"
                text = f"{verdict.measurement} {finding_text(verdict)}"
                yield verdict.verdict, Annotation(file, one.line(verdict) or 1, title, text)


def from_root(path: Path, root: Path) -> str:
    """The path as the checkout knows it."""
    real, base = path.resolve(), root.resolve()
    return (real.relative_to(base) if real.is_relative_to(base) else path).as_posix()


def step_summary(ended: Sequence[Ended]) -> str:
    """Markdown: the table of experiments, and under it what did not pass."""
    rows = [HEADER, *(outcome_row(one) for one in ended[:ROWS])]
    head, *body = (f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)
    failed = [_bullet(one, verdict) for one in ended for verdict in one.verdicts if verdict.verdict != "pass"]
    parts = ["### steer", "\n".join([head, "|---" * len(HEADER) + "|", *body]), "\n".join(failed[:ROWS])]
    return "\n\n".join(filter(None, parts)) + "\n\n"


def _bullet(one: Ended, verdict: Verdict) -> str:
    found = f"{verdict.measurement} {finding_text(verdict)}"
    return f"- **{_cell(verdict.verdict)}** {_cell(f'{one.name}: {verdict.id}')}: {_cell(found)}"


def _cell(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    escaped = shortened(text, LONGEST).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKS.sub(r"\\\1", escaped)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(log_text(text)).replace(":", "%3A").replace(",", "%2C")


def on_github(environment: Mapping[str, str]) -> bool:
    """Whether a workflow of GitHub Actions is running."""
    return environment.get("GITHUB_ACTIONS") == "true"
