"""Judged cases as JUnit XML, which CI systems show case by case."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree

from ..policies.casebook import Answer
from ..policies.model import Basis


def write_junit(answers: Sequence[Answer], gaps: Sequence[str], refusal: str = "") -> str:
    """One suite for each case file with a test for each case, one for what has no case, and one with the refusal where
    the policies could not be read at all."""
    suites = [
        _suite(file.stem, [_case(answer) for answer in group])
        for file, group in groupby(answers, key=lambda answer: answer.case.location.file)
    ]
    if gaps:
        suites.append(_suite("gaps", [_told("gaps", "failure", gap) for gap in gaps]))
    if refusal:
        suites.append(_suite("policies", [_told("policies", "error", refusal)]))
    root = ElementTree.Element("testsuites", {"name": "arborgate policy test", **_sum(suites)})
    root.extend(suites)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(name: str, tests: Sequence[ElementTree.Element]) -> ElementTree.Element:
    failures = sum(test.find("failure") is not None for test in tests)
    errors = sum(test.find("error") is not None for test in tests)
    counts = {"tests": str(len(tests)), "failures": str(failures), "errors": str(errors), "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": name, "time": "0", **counts})
    suite.extend(tests)
    return suite


def _sum(suites: Sequence[ElementTree.Element]) -> dict[str, str]:
    return {name: str(sum(int(suite.get(name, "0")) for suite in suites)) for name in ("tests", "failures", "errors")}


def _case(answer: Answer) -> ElementTree.Element:
    case = answer.case
    where = case.location
    test = ElementTree.Element(
        "testcase",
        classname=f"policies.{where.file.stem}",
        name=_clean(case.title),
        file=str(where.file),
        line=str(where.line),
        time="0",
    )
    if answer.problem:
        kind = "error" if answer.decision.basis is Basis.ERROR else "failure"
        found = ElementTree.SubElement(test, kind, message=_clean(answer.problem), type=str(answer.decision.basis))
        found.text = _clean(f"{where}: {answer.problem}\n{case.why}")
    return test


def _told(name: str, kind: str, problem: str) -> ElementTree.Element:
    first = _clean(problem.splitlines()[0])
    test = ElementTree.Element("testcase", classname=f"policies.{name}", name=first, time="0")
    ElementTree.SubElement(test, kind, message=first, type=name).text = _clean(problem)
    return test


def _clean(text: str) -> str:
    """Without the characters that XML has no way to write."""
    return "".join(each if each >= " " or each in "\t\n" else "?" for each in text)
