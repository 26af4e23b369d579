from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from steer.analysis.expectations import Verdict
from steer.analysis.suite import Ended
from steer.report.github import error_lines, from_root, on_github, step_summary

ROOT = Path("/checkout")
COMMAND = re.compile(r"::error file=([^:,\s]*),line=(\d+),title=([^:,]*)::(.*)")
"""What the runner reads: properties end at a comma, the message begins behind the second `::`."""


def verdict(name: str, outcome: str, reason: str = "") -> Verdict:
    return Verdict(name, "mentions", {}, outcome, 0.5, 0.4, 0.6, 40, {"min": 0.8}, "t", reason)  # type: ignore[arg-type]


def experiment(name: str = "gate", *verdicts: Verdict, **more: object) -> Ended:
    lines = {"headline": 31}
    return Ended(name, ROOT / "experiments/gate.yaml", verdicts, lines, page=Path("report.html"), **more)  # type: ignore[arg-type]


def test_an_annotation_stands_at_the_line_of_the_expectation_and_says_the_numbers() -> None:
    (line,) = error_lines([experiment("gate", verdict("headline[fr]", "fail"), verdict("other", "pass"))], ROOT)
    expected = "mentions 0.50 [0.40, 0.60] (40 prompts), expected at least 0.8"
    assert COMMAND.fullmatch(line).groups() == (  # type: ignore[union-attr]
        "experiments/gate.yaml",
        "31",
        "gate%3A headline[fr] fail",
        expected,
    )


@pytest.mark.parametrize(
    "hostile", ["100 %\r\n::add-mask::x", "a%0Ab", "\x1b[2J", "x::warning file=y,line=1::z", "\u202egnp.exe", "a,b:c"]
)
def test_hostile_text_stays_text_and_the_line_stays_one_line(hostile: str) -> None:
    one = experiment(f"gate{hostile}", verdict("headline", "fail", hostile))
    (line,) = error_lines([one], ROOT)
    found = COMMAND.fullmatch(line)
    assert found is not None and line.isprintable()
    for part in (found[3], found[4]):
        assert not any(text.lstrip().startswith("::") for text in unquote(part).splitlines())
    assert unquote(found[4]).endswith(
        hostile.split("\n")[-1].replace("::add", ": :add").translate({27: "␛", 0x202E: "‹U+202E›"})
    )


def test_the_worst_ten_are_told_what_did_not_run_first() -> None:
    broken = Ended("broken", Path("b.yaml"), problems=("no such model", "and more"))
    half = experiment("half", verdict("a", "pass"), problems=("a trial failed",))
    many = experiment("many", *(verdict(f"e{i}", "inconclusive" if i % 2 else "fail") for i in range(20)))
    told = error_lines([many, half, broken], ROOT)
    titles = [COMMAND.fullmatch(line)[3] for line in told]  # type: ignore[index]
    assert titles[:2] == ["broken did not run", "half incomplete"]
    assert [title.split()[-1] for title in titles[2:]] == ["fail"] * 8
    assert told[0].endswith("no such model (and 1 more)")


def test_a_file_is_named_from_the_checkout_and_another_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert from_root(tmp_path / "a" / ".." / "x.yaml", tmp_path) == "x.yaml"
    assert from_root(Path("/elsewhere/x.yaml"), tmp_path) == "/elsewhere/x.yaml"


def test_the_summary_page_is_a_table_with_what_did_not_pass_below_it() -> None:
    text = step_summary([experiment("gate", verdict("headline", "fail"), verdict("other", "pass"))])
    title, table, failed = text.strip().split("\n\n")
    assert table.splitlines()[1] == "|---|---|---|---|---|---|---|"
    assert table.splitlines()[2] == "| gate | 1 | 1 | 0 | fail | 0 s | report.html |"
    assert failed == r"- **fail** gate: headline: mentions 0.50 \[0.40, 0.60\] (40 prompts), expected at least 0.8"


@pytest.mark.parametrize(
    "hostile", ["<script>x</script>", "a | b | c", "![x](http://y)", "`code`", "line\n# heading", "\x1b[0m"]
)
def test_nothing_in_a_cell_is_markup(hostile: str) -> None:
    text = step_summary([experiment(hostile, verdict("headline", "fail", hostile))])
    assert len(text.strip().splitlines()) == 7
    bare = re.sub(r"\\.", "", text)
    assert not re.search(r"[<>`!]\[|<|`|\x1b", bare)
    assert bare.splitlines()[4].count("|") == 8


@pytest.mark.parametrize(
    ("environment", "expected"), [({}, False), ({"GITHUB_ACTIONS": "true"}, True), ({"CI": "true"}, False)]
)
def test_annotations_are_for_github_only(environment: dict[str, str], expected: bool) -> None:
    assert on_github(environment) is expected
