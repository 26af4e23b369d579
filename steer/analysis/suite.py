"""What became of several experiments: each one's verdicts, or why it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from steer.analysis.expectations import Verdict  # brings pandas and scipy, which planning does without

Worst = Literal[
    "pass", "expects nothing", "to be merged", "skipped", "inconclusive", "fail", "incomplete", "did not run"
]


@dataclass(frozen=True)
class Ended:
    """One experiment file at the end.

    `lines` says where in the file an expectation stands, by its id without `[value]`. `page` is None where nothing
    ran: `problems` (with the `code` of the first) or `skipped` then say why. Of a shard it is the run folder.
    """

    name: str
    path: Path
    verdicts: tuple[Verdict, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    code: int = 3
    page: Path | None = None
    seconds: float = 0.0
    skipped: str = ""
    shard: bool = False

    @property
    def worst(self) -> Worst:
        """The word that decides the exit code."""
        if self.skipped:
            return "skipped"
        if self.problems:
            return "did not run" if self.page is None else "incomplete"
        if self.shard:
            return "to be merged"
        found = {verdict.verdict for verdict in self.verdicts}
        decided: tuple[Worst, ...] = ("fail", "inconclusive", "pass")
        return next((word for word in decided if word in found), "expects nothing")

    @property
    def exit_code(self) -> int:
        """0 all expectations held, 1 one failed or is inconclusive, 3 not complete; where nothing ran, the error's."""
        match self.worst:
            case "pass" | "expects nothing" | "to be merged" | "skipped":
                return 0
            case "fail" | "inconclusive":
                return 1
            case "incomplete":
                return 3
            case "did not run":
                return self.code

    def line(self, verdict: Verdict) -> int | None:
        """Where the verdict's expectation stands in the file."""
        return self.lines.get(verdict.id.split("[")[0])


def suite_exit_code(ended: Sequence[Ended]) -> int:
    """The worst: 3 over 1 over 0; 2 only where nothing ran at all."""
    if all(one.page is None for one in ended):
        return max((one.exit_code for one in ended if not one.skipped), default=2)
    return max(3 if one.exit_code == 2 else one.exit_code for one in ended)
