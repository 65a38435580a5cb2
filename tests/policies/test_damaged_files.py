"""Damaged files: whatever is wrong in a text, it is told with a place in that text, and nothing else comes of it."""

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from arborgate.policies.casebook import read_cases
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.formulas import read_policy
from arborgate.policies.lint import lint
from arborgate.policies.loader import SCHEMA, SHIPPED, read_schema
from arborgate.policies.statements import check_statements, read_statements
from arborgate.policies.wording import write_formula
from tests.policies.random_policies import policy_texts, read

POLICIES = (SHIPPED / "always.cedar").read_text() + (SHIPPED / "developers.cedar").read_text()
CASES = (SHIPPED / "cases/always.yaml").read_text()
WORDS = re.findall(r"\w+", SCHEMA.read_text())

PIECES = st.one_of(
    st.text(max_size=3),
    st.sampled_from(
        ['"', "“", "'", ";", "(", "}", "==", "=", "&&", "and", "?principal", "@id", "permit", "//", "\\q", ":", "\t"]
    ),
)


def damaged(text: str) -> st.SearchStrategy[str]:
    """The text with up to three pieces of it gone and others in their place."""

    def damage(cuts: list[tuple[int, int, str]]) -> str:
        result = text
        for at, length, instead in cuts:
            start = at % (len(result) + 1)
            result = result[:start] + instead + result[start + length :]
        return result

    cut = st.tuples(st.integers(0, 10_000), st.sampled_from([0, 0, 1, 2, 5, 40]), PIECES)
    return st.lists(cut, min_size=1, max_size=3).map(damage)


def assert_told(error: BadConfiguration, text: str) -> None:
    """Each mistake begins with a place that is in the text, and its line is shown."""
    lines = text.split("\n")
    places = re.findall(r"^own\.file:(\d+):(\d+): ", str(error), re.MULTILINE)
    assert places
    for line, column in places:
        assert 1 <= int(column) <= len(lines[int(line) - 1]) + 2


@settings(max_examples=120, deadline=None)
@given(damaged(POLICIES))
def test_a_damaged_policy_file_is_refused_with_places_or_still_makes_sense(text: str) -> None:
    try:
        statements = read_statements(Path("own.file"), text)
        check_statements(statements, read_schema(), WORDS)
    except BadConfiguration as error:
        assert_told(error, text)
    else:
        lint(statements)


@settings(max_examples=120, deadline=None)
@given(damaged(CASES))
def test_a_damaged_case_file_is_refused_with_places_or_still_makes_sense(text: str) -> None:
    try:
        read_cases(Path("own.file"), text)
    except BadConfiguration as error:
        assert_told(error, text)


@settings(max_examples=60, deadline=None)
@given(policy_texts())
def test_a_condition_is_written_so_that_it_reads_the_same(text: str) -> None:
    for statement in read(text):
        formula = read_policy(statement.policy)
        (again,) = read(f'@id("x") permit (principal, action, resource) when {{ {write_formula(formula)} }};')
        assert read_policy(again.policy) == formula
