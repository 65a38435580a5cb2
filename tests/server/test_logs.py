"""Log lines: JSON, redacted, and never as they came when anything about them goes wrong."""

import json
import logging

import pytest

from arborgate.server.logs import JsonFormatter
from arborgate.server.redaction import Redactor

TOKEN = "ghp_" + "Zq3" * 12


def make_record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    thrown = (type(error), error, None) if error is not None else None
    return logging.LogRecord("arborgate", logging.WARNING, __file__, 1, message, arguments, thrown)


@pytest.mark.parametrize("traces", [False, True])
def test_a_line_is_redacted_with_its_arguments_and_its_error(traces: bool) -> None:
    formatter = JsonFormatter(Redactor().clean_text, traces=traces)
    line = formatter.format(make_record("%s was refused: %r", TOKEN, [TOKEN], error=ValueError(TOKEN)))
    assert "Zq3" not in line
    assert json.loads(line)["message"].startswith("[redacted:github_token")
    assert "ValueError: [redacted:github_token" in json.loads(line)["error"]


def test_a_line_that_can_not_be_redacted_is_left_out() -> None:
    def fail(text: str) -> str:
        raise IndexError("bad group")

    line = JsonFormatter(fail, traces=False).format(make_record(TOKEN, error=ValueError(TOKEN)))
    assert "Zq3" not in line
    assert json.loads(line)["message"] == "(left out: it could not be redacted)"


def test_arguments_that_do_not_fit_their_line_are_left_out() -> None:
    line = JsonFormatter(Redactor().clean_text, traces=False).format(make_record("%d were refused", TOKEN))
    assert json.loads(line)["message"] == "%d were refused"
