"""JUnit XML: a suite is an experiment, a case is an expectation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from steer.analysis.expectations import Verdict, finding_text
from steer.analysis.samples import where_text
from steer.analysis.suite import Ended

FORBIDDEN = re.compile("[^\t\n\r\u0020-\u007e\u0085\u00a0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]")
"""Characters that XML 1.0 does not allow, or advises against (the C1 controls, non-characters)."""
COUNTED = {
    "tests": "testcase",
    "failures": "testcase/failure",
    "errors": "testcase/error",
    "skipped": "testcase/skipped",
}
"""Attributes of a suite and what they count."""


def junit(
    experiment: str, verdicts: Sequence[Verdict], file: str | None = None, lines: Mapping[str, int] | None = None
) -> str:
    """The verdicts as JUnit XML; `file` and `lines` (by expectation id, without `[value]`) say where they stand.

    Fail and inconclusive are failures, what could not be evaluated is an error.
    """
    return _document([_suite(experiment, verdicts, file, lines or {})])


def junit_of_all(ended: Sequence[Ended]) -> str:
    """Several experiments as one JUnit file, a suite each.

    A run that is not complete has an error `run` before its verdicts; one that was skipped has one skipped case.
    """
    return _document([_whole_suite(one) for one in ended])


def _document(suites: Sequence[ElementTree.Element]) -> str:
    totals = {key: str(sum(int(suite.attrib[key]) for suite in suites)) for key in COUNTED}
    root = ElementTree.Element("testsuites", totals)
    root.extend(suites)
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def _suite(
    experiment: str, verdicts: Sequence[Verdict], file: str | None, lines: Mapping[str, int]
) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", {"name": clean(experiment)})
    for verdict in verdicts:
        suite.append(_case(experiment, verdict, file, lines.get(verdict.id.split("[")[0])))
    return _counted(suite)


def _whole_suite(one: Ended) -> ElementTree.Element:
    suite = _suite(one.name, one.verdicts, str(one.path), one.lines)
    if one.problems or one.skipped:
        case = ElementTree.Element("testcase", {"classname": clean(one.name), "name": "run", "file": str(one.path)})
        message = clean(one.skipped or one.problems[0])
        element = ElementTree.SubElement(case, "skipped" if one.skipped else "error", {"message": message})
        element.text = clean("\n".join(one.problems)) or None
        suite.insert(0, case)
    suite.set("time", f"{one.seconds:.3f}")
    return _counted(suite)


def _counted(suite: ElementTree.Element) -> ElementTree.Element:
    for key, tag in COUNTED.items():
        suite.set(key, str(len(suite.findall(tag))))
    return suite


def _case(experiment: str, verdict: Verdict, file: str | None, line: int | None) -> ElementTree.Element:
    place = {"file": file, "line": None if line is None else str(line)}
    attributes = {"classname": experiment, "name": verdict.id, **{k: v for k, v in place.items() if v is not None}}
    case = ElementTree.Element("testcase", {key: clean(value) for key, value in attributes.items()})
    if verdict.verdict != "pass":
        tag = "error" if verdict.estimate is None else "failure"
        message = clean(f"{verdict.verdict}: {finding_text(verdict)}")
        element = ElementTree.SubElement(case, tag, {"message": message, "type": verdict.verdict})
        details = (
            f"measurement: {verdict.measurement}",
            f"where: {where_text(verdict.where)}",
            f"test: {verdict.test}",
        )
        element.text = clean("\n".join(details))
    return case


def clean(text: str) -> str:
    """Text without the characters XML cannot hold."""
    return FORBIDDEN.sub("", text)
