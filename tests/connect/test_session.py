"""A login that lives: bound requests, renewal, what is learned from refusals, and when a person is asked."""

import pytest

from tests.connect.office import Office

pytestmark = pytest.mark.anyio


async def test_a_first_request_has_the_person_log_in_and_goes_through_bound(office: Office) -> None:
    async with office.session(person="vera") as session:
        answer = await office.ask(session)
    assert answer.status_code == 200, answer.text
    assert "dpop: vera" in answer.text
    assert office.shown.qsize() == 1
    assert office.kept().registered
