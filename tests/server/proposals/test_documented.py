"""docs/proposals.md says where each state may go, and it is right."""

import re
from pathlib import Path

from arborgate.server.proposal_states import TRANSITIONS
from arborgate.tools.kubernetes.changes import MARK

PAGE = (Path(__file__).parents[3] / "docs" / "proposals.md").read_text(encoding="utf-8")


def test_the_table_of_states_is_that_of_the_code() -> None:
    table = PAGE.partition("## States")[2].partition("##")[0]
    rows = re.findall(r"^\| (\w+) \| ([\w, ]+) \|$", table, re.MULTILINE)
    assert rows[1:] == [(str(state), ", ".join(sorted(after))) for state, after in TRANSITIONS.items()]


def test_the_mark_is_the_one_that_is_left() -> None:
    assert f"`{MARK}: <proposal>/<number>`" in PAGE
