"""The record on the pages: who may see whose, by which filters, and the proof of the logs behind it."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest

from arborgate.policies.model import Action
from arborgate.server.proof import prove
from arborgate.server.signed_heads import SignedHead, sign_head
from arborgate.server.web import record_pages
from arborgate.tools.proposal import Proposal
from arborgate.tools.record import Event
from tests.server.web.world import Visitor, World, hidden_fields

pytestmark = pytest.mark.anyio


def rows_of(answer: httpx2.Response) -> list[str]:
    """The rows of the table as text."""
    found = re.findall(r"<tr>(.*?)</tr>", answer.text.partition("<tbody>")[2], re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in found]


async def see(visitor: Visitor, filters: Mapping[str, str] | None = None) -> list[str]:
    answer = await visitor.get(f"/record?{urlencode(filters or {})}")
    assert answer.status_code == 200
    return rows_of(answer)


@pytest.fixture
async def proposal(world: World) -> Proposal:
    """One that Dev asked for, that April approved, and that Dan was not allowed to."""
    proposal = await world.propose()
    april, dan = await world.enter("april", "approver"), await world.enter("dan", "developer")
    assert (await dan.decide(proposal)).status_code == 403
    assert (await april.decide(proposal)).status_code == 303
    await world.wait_searchable(proposal)
    return proposal


async def test_an_auditor_sees_what_everybody_did_the_newest_first(world: World, proposal: Proposal) -> None:
    rows = await see(await world.enter("otto", "auditor"), {"proposal": proposal.id})
    approved = [row for row in rows if "proposal:approved" in row]
    assert "April" in approved[0]
    times = [row[:19] for row in rows]
    assert times == sorted(times, reverse=True)


async def test_a_developer_sees_what_they_did_themselves_alone(world: World, proposal: Proposal) -> None:
    rows = await see(await world.enter("dan", "developer"))
    assert rows
    assert all("Dan" in row for row in rows)


@pytest.mark.parametrize(
    ("filters", "shown", "hidden"),
    [
        ({"person": "April"}, "proposal:approved", "Dan"),
        ({"person": "https://issuer.test#april"}, "proposal:approved", "Dan"),
        ({"person": "me"}, "", "April"),
        ({"agent": "ide-copilot"}, "proposal:drafted", "proposal:approved"),
        ({"event": "proposal"}, "proposal:approved", "call:denied"),
        ({"decision": "deny"}, "call:denied", "proposal:approved"),
        ({"decision": "allow", "person": "Dan"}, "", "denied"),
        ({"app": "Proposal::p-"}, "proposal:approved", "log:opened"),
        ({"since": "1h"}, "proposal:approved", "nothing of the sort"),
        ({"until": "1h"}, "", "proposal:approved"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
async def test_every_filter_leaves_out_what_does_not_fit(
    world: World, proposal: Proposal, filters: dict[str, str], shown: str, hidden: str
) -> None:
    rows = await see(await world.enter("otto", "auditor"), filters)
    assert any(shown in row for row in rows) or not shown
    assert not any(hidden in row for row in rows)


@pytest.mark.parametrize(
    ("filters", "field"),
    [({"since": "yesterday"}, "Since"), ({"event": "nonsense"}, "Event"), ({"decision": "perhaps"}, "Decision")],
)
async def test_a_filter_that_can_not_be_read_is_named_and_nothing_typed_is_lost(
    world: World, filters: dict[str, str], field: str
) -> None:
    otto = await world.enter("otto", "auditor")
    answer = await otto.get(f"/record?{urlencode({**filters, 'person': 'April'})}")
    assert answer.status_code == 400
    assert f"{field}:" in answer.text
    assert 'value="April"' in answer.text


async def test_older_records_are_a_page_away(world: World, proposal: Proposal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_pages, "_PAGE", 3)
    otto = await world.enter("otto", "auditor")
    first = await otto.get(f"/record?proposal={proposal.id}")
    (link,) = re.findall(r'href="(/record\?[^"]+)">Older', first.text)
    second = await otto.get(link.replace("&amp;", "&"))
    assert len(rows_of(first)) == 3
    assert rows_of(second)
    assert not set(rows_of(first)) & set(rows_of(second))


async def test_a_position_that_is_none_is_refused(world: World) -> None:
    otto = await world.enter("otto", "auditor")
    assert (await otto.get("/record?before=5%200")).status_code == 400


async def test_whoever_may_not_search_is_told_so_and_that_is_on_record(world: World) -> None:
    nobody = await world.enter("nobody")
    assert (await nobody.get("/record")).status_code == 403
    (denied,) = world.records(Event.CALL_DENIED)
    assert (denied.action, denied.decision) == (Action.RECORD_SEARCH, "deny")


async def test_looking_is_on_record(world: World) -> None:
    await see(await world.enter("otto", "auditor"))
    assert [one.action for one in world.records(Event.CALL_ANSWERED)] == [Action.RECORD_SEARCH]


async def test_what_agents_wrote_can_not_become_part_of_the_page(world: World) -> None:
    hostile = '<script>alert(1)</script>\u202e"onfocus=x'
    otto = await world.enter("otto", "auditor")
    answer = await otto.get(f"/record?{urlencode({'person': hostile, 'app': hostile})}")
    assert "<script>alert" not in answer.text
    assert '"onfocus=x' not in answer.text


async def verify(visitor: Visitor) -> httpx2.Response:
    form = hidden_fields((await visitor.get("/record")).text)
    return await visitor.post("/record/verify", form)


async def test_one_click_proves_the_logs_of_this_replica(world: World, proposal: Proposal) -> None:
    answer = await verify(await world.enter("otto", "auditor"))
    assert answer.status_code == 200
    assert "whole" in answer.text
    assert "not whole" not in answer.text
    assert "serve-1" in answer.text
    assert "No log here is signed" in answer.text


async def test_a_line_that_was_changed_is_named(world: World, proposal: Proposal) -> None:
    text = world.audit.path.read_text()
    world.audit.path.write_text(text.replace("April", "Bperl", 1))
    answer = await verify(await world.enter("otto", "auditor"))
    assert "not whole" in answer.text
    assert re.search(r"broken at line \d+: the hash does not cover the line", answer.text)


async def test_signatures_are_checked_with_the_key_of_this_replica(world: World, proposal: Proposal) -> None:
    world.change(replica="serve-1", record_key=world.key)
    answer = await verify(await world.enter("otto", "auditor"))
    assert "nothing in it is signed by a key that was given" in answer.text


async def test_a_head_that_the_file_does_not_have_any_more_is_missed(world: World, proposal: Proposal) -> None:
    world.change(replica="serve-1", record_key=world.key)
    ahead = sign_head(SignedHead("serve-1", 9_999, "0" * 64, "2026-11-21T08:00:00.000000Z"), world.key)
    world.audit.path.with_suffix(".head").write_text(ahead)
    answer = await verify(await world.enter("otto", "auditor"))
    assert "its end was cut off" in answer.text


async def test_a_line_that_is_just_being_written_is_no_fault(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy-1.jsonl"
    copy.write_bytes(world.audit.path.read_bytes() + b'{"seq":')
    assert prove([copy], {}, (), growing=True).faults == []
    assert prove([copy], {}, ()).faults != []


async def test_a_developer_does_not_prove_what_others_did(world: World) -> None:
    dev, otto = await world.enter("dev", "developer"), await world.enter("otto", "auditor")
    assert "Verify the logs" in (await otto.get("/record")).text
    page = await dev.get("/record")
    assert "Verify the logs" not in page.text
    assert (await dev.post("/record/verify", hidden_fields(page.text))).status_code == 403


async def test_another_site_starts_no_proof(world: World) -> None:
    otto = await world.enter("otto", "auditor")
    form = hidden_fields((await otto.get("/record")).text)
    assert (await otto.post("/record/verify", form, Origin="https://evil.test")).status_code == 403
    assert (await otto.post("/record/verify", {"csrf": "guessed"})).status_code == 403


async def test_logs_that_are_too_long_for_a_page_are_left_to_the_terminal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_pages, "MOST_BYTES", 10)
    answer = await verify(await world.enter("otto", "auditor"))
    assert answer.status_code == 409
    assert "arborgate record verify" in answer.text
