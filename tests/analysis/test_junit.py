from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from steer.analysis.expectations import Verdict
from steer.analysis.junit import clean, junit, junit_of_all
from steer.analysis.suite import Ended


def verdict(name: str, outcome: str, estimate: float | None = 0.5, reason: str = "") -> Verdict:
    where = {"condition": "clamped", "dose": 5.0}
    return Verdict(name, "mentions", where, outcome, estimate, 0.4, 0.6, 40, {"min": 0.8}, "t", reason)  # type: ignore[arg-type]


VERDICTS = (
    verdict("headline", "pass"),
    verdict("bound[fr]", "fail"),
    verdict("open", "inconclusive"),
    verdict("lost", "fail", None, "no trial measured it"),
)


def test_the_suite_is_the_experiment_and_the_cases_are_its_expectations() -> None:
    root = ElementTree.fromstring(junit("golden-gate", VERDICTS, "experiments/golden_gate.yaml", {"bound": 31}))
    suite = root[0]
    assert suite.attrib == {"name": "golden-gate", "tests": "4", "failures": "2", "errors": "1", "skipped": "0"}
    assert [case.get("name") for case in suite] == ["headline", "bound[fr]", "open", "lost"]
    assert {case.get("classname") for case in suite} == {"golden-gate"}
    assert {case.get("file") for case in suite} == {"experiments/golden_gate.yaml"}
    assert [case.get("line") for case in suite] == [None, "31", None, None]


def test_fail_and_inconclusive_are_failures_with_the_numbers_and_what_has_none_is_an_error() -> None:
    cases = ElementTree.fromstring(junit("golden-gate", VERDICTS))[0]
    assert [[child.tag for child in case] for case in cases] == [[], ["failure"], ["failure"], ["error"]]
    message = cases[2][0].get("message")
    assert message == "inconclusive: 0.50 [0.40, 0.60] (40 prompts), expected at least 0.8"
    assert cases[2][0].get("type") == "inconclusive"
    assert cases[3][0].get("message") == "fail: not evaluated: no trial measured it"


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0), 0xD800, 0xDFFF, 0xFFFE, 0xFFFF])
def test_no_control_character_gets_into_the_file(code: int) -> None:
    text = junit(f"a{chr(code)}b", (verdict("x", "fail", None, f"::{chr(code)}<&\"'"),))
    allowed = "\t\n\r\x85"
    assert chr(code) not in text.replace("\n", "") or chr(code) in allowed
    assert ElementTree.fromstring(text)[0].get("name") == clean(f"a{chr(code)}b").replace("\t", "\t")


def test_text_beyond_the_basic_plane_stays() -> None:
    assert clean("naïve 橋 🌉") == "naïve 橋 🌉"


def test_several_experiments_are_one_file_with_a_suite_each() -> None:
    page = Path("report.html")
    ended = (
        Ended("golden-gate", Path("experiments/golden_gate.yaml"), VERDICTS, {"bound": 31}, page=page, seconds=1.25),
        Ended("half", Path("half.yaml"), VERDICTS[:1], problems=("trial a failed\x1b", "trial b failed"), page=page),
        Ended("wrong", Path("wrong.yaml"), problems=("does not fit",), code=2),
        Ended("far", Path("far.yaml"), skipped="it needs the Hub"),
    )
    root = ElementTree.fromstring(junit_of_all(ended))
    assert root.attrib == {"tests": "8", "failures": "2", "errors": "3", "skipped": "1"}
    assert [suite.get("name") for suite in root] == ["golden-gate", "half", "wrong", "far"]
    assert [suite.get("time") for suite in root][0] == "1.250"
    assert root[0][1].get("line") == "31" and root[0][1].get("file") == "experiments/golden_gate.yaml"
    assert [case.get("name") for case in root[1]] == ["run", "headline"]
    error = root[1][0][0]
    assert (error.tag, error.get("message"), error.text) == (
        "error",
        "trial a failed",
        "trial a failed\ntrial b failed",
    )
    assert root[3][0][0].tag == "skipped" and root[3][0][0].get("message") == "it needs the Hub"
