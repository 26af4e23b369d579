"""`junit.xml`: the suite is the experiment, a case is an expectation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from steer.analysis.expectations import Verdict, finding_text
from steer.analysis.samples import where_text

FORBIDDEN = re.compile("[^\t\n\r\u0020-\u007e\u0085\u00a0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]")
"""Characters that XML 1.0 does not allow, or advises against (the C1 controls, non-characters)."""


def junit(
    experiment: str, verdicts: Sequence[Verdict], file: str | None = None, lines: Mapping[str, int] | None = None
) -> str:
    """The verdicts as JUnit XML; `file` and `lines` (by expectation id, without `[value]`) say where they stand.

    Fail and inconclusive are failures, what could not be evaluated is an error.
    """
    failed = sum(v.verdict != "pass" and v.estimate is not None for v in verdicts)
    errors = sum(v.estimate is None for v in verdicts)
    counts = {"tests": str(len(verdicts)), "failures": str(failed), "errors": str(errors), "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": clean(experiment), **counts})
    for verdict in verdicts:
        suite.append(_case(experiment, verdict, file, (lines or {}).get(verdict.id.split("[")[0])))
    suites = ElementTree.Element("testsuites", counts)
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, "unicode", xml_declaration=True) + "\n"


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
