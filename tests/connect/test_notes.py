"""What the bridge says on standard error: something when it changes, and no more."""

import pytest

from arborgate.policies.errors import Busy, Unavailable
from arborgate.server.connect.failures import Notes


def test_calls_that_wait_their_turn_are_spoken_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes()
    for _ in range(3):
        notes.tell(Busy("You ask too often."))
        notes.mend()
    assert capsys.readouterr().err == "arborgate connect: You ask too often. Try again in 1 s.\n"


def test_an_outage_and_its_end_are_told_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes()
    for _ in range(2):
        notes.tell(Unavailable("It is away."))
        notes.tell(Unavailable("It is away."))
        notes.mend()
    told = ["arborgate connect: It is away.", "arborgate connect: Arborgate answers again."]
    assert capsys.readouterr().err.splitlines() == told * 2
