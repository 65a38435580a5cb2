"""The tool `record_search`: what is found, and what of it a person may see."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import Reason
from arborgate.policies.model import Caller
from arborgate.tools.record import Entry, Event, Record, name_caller
from tests.tools.world import ADA, AUDITOR, NOW, World, make_app, make_caller

pytestmark = pytest.mark.anyio

BOB = make_caller("bob", "approver", agent="")


def make_world(tmp_path: Path) -> World:
    return World(tmp_path, make_app("api"), make_app("vault", hidden=True))


async def note(world: World, caller: Caller, event: Event, **fields: Any) -> Record:
    entry = Entry(event=event, caller=caller.key, caller_name=caller.name, agent=caller.agent, **fields)
    return await world.records.write(entry)


async def search(world: World, caller: Caller = AUDITOR, **filters: Any) -> list[tuple[str, str]]:
    """Who and what event, of each record that is found; the searches themselves are left out."""
    answer = await world.ask("record_search", caller, **filters)
    return [(row["person"], row["event"]) for row in answer["records"] if row.get("tool") != "record_search"]


async def test_an_auditor_finds_who_approved_what(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await note(world, ADA, Event.PROPOSAL_PROPOSED, proposal="p1", resource="Proposal::p1")
    await note(world, BOB, Event.PROPOSAL_APPROVED, proposal="p1", resource="Proposal::p1", policies=("approvers",))
    answer = await world.call("record_search", AUDITOR, proposal="p1")
    assert answer.structured is not None
    assert answer.structured["everyone"] is True
    assert answer.structured["records"][0] == {
        "time": "2025-11-22T08:00:02.000000Z",
        "event": "proposal:approved",
        "person": "Bob",
        "agent": "",
        "resource": "Proposal::p1",
        "policies": ["approvers"],
        "proposal": "p1",
        "line": "serve-1/2",
    }
    assert answer.text.splitlines()[0] == "Records of everyone, newest first:"


async def test_who_acts_for_a_person_is_told_apart_from_who_acts_for_itself(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    for caller in (replace(ADA, agent="chat", actors=("assistant",)), replace(ADA, agent="chat", itself=True)):
        await world.records.write(Entry(event=Event.CALL_ANSWERED, **name_caller(caller)))
    answer = await world.call("record_search", AUDITOR, event="call:answered", agent="chat")
    assert answer.structured is not None
    rows = [(row["agent"], row.get("via"), row.get("itself")) for row in answer.structured["records"]]
    assert rows == [("chat", None, True), ("chat", ["assistant"], None)]
    assert "«Ada» for itself" in answer.text
    assert "«Ada» with chat via assistant" in answer.text


async def test_every_filter_narrows_the_search(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await note(world, ADA, Event.PROPOSAL_PROPOSED, proposal="p1", tool="rollout_propose")
    await note(world, ADA, Event.CALL_ANSWERED, tool="app_get", resource="App::main/argocd/api")
    await note(world, BOB, Event.PROPOSAL_APPROVED, proposal="p1")
    approved, proposed, answered = ("Bob", "proposal:approved"), ("Ada", "proposal:proposed"), ("Ada", "call:answered")
    assert await search(world, person="Bob") == [approved]
    assert await search(world, person=BOB.key) == [approved]
    assert await search(world, person="me") == []
    assert await search(world, agent="ide-copilot") == [answered, proposed]
    assert await search(world, tool="app_get") == [answered]
    assert await search(world, event="proposal:approved") == [approved]
    assert await search(world, resource="argocd/api") == [answered]
    assert await search(world, proposal="p1") == [approved, proposed]


async def test_times_are_absolute_or_ago_and_anything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path)
    queries: list[tuple[float, float]] = []
    store = world.records.search

    async def watch(query: Any) -> Any:
        queries.append((query.since, query.until))
        return await store(query)

    monkeypatch.setattr(world.records, "search", watch)
    await world.ask("record_search", AUDITOR, since="7d", until="2025-11-22T09:26:40+01:00")
    assert queries == [(NOW - 7 * 86_400, NOW)]
    for text in ("yesterday", "2025-11-22T08:26:40", "7y"):
        error = await world.fail("record_search", AUDITOR, since=text)
        assert (error.reason, error.field) == (Reason.INVALID, "since")


async def test_without_the_right_to_all_a_person_finds_only_their_own(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await note(world, BOB, Event.PROPOSAL_APPROVED, proposal="p1")
    await note(world, ADA, Event.PROPOSAL_PROPOSED, proposal="p1")
    answer = await world.ask("record_search", ADA)
    assert answer["everyone"] is False
    assert [row["person"] for row in answer["records"]] == ["Ada"]
    assert await search(world, ADA, person="Bob") == []
    assert await search(world, ADA, person=BOB.key) == []
    assert await search(world, ADA, proposal="p1") == [("Ada", "proposal:proposed")]
    assert await search(world, ADA, proposal="p2") == []


async def test_filters_narrow_ones_own_records_too(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await note(world, ADA, Event.CALL_ANSWERED, resource="App::main/argocd/api")
    await note(world, ADA, Event.CALL_FAILED, resource="App::main/argocd/api", outcome="busy")
    await note(world, ADA, Event.CALL_ANSWERED, resource="App::main/argocd/web")
    assert await search(world, ADA, resource="/web") == [("Ada", "call:answered")]
    assert await search(world, ADA, event="call:failed") == [("Ada", "call:failed")]
    assert await search(world, ADA, event="call:answered", resource="/api") == [("Ada", "call:answered")]


async def test_a_search_that_stops_before_the_end_says_how_far_it_came(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await note(world, ADA, Event.PROPOSAL_PROPOSED, resource="Proposal::p1")
    for _ in range(60):
        await note(world, ADA, Event.CALL_ANSWERED)
    answer = await world.ask("record_search", ADA, resource="p1", limit=1)
    assert answer["records"] == []
    assert answer["cut"] == "This page is not full: the search stopped early. Go on with the cursor."
    pages = 0
    while not answer["records"]:
        answer = await world.ask("record_search", ADA, resource="p1", limit=1, cursor=answer["cursor"])
        pages += 1
    assert pages < 5


async def test_a_person_whose_name_is_my_key_does_not_show_me_their_records(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await world.records.write(Entry(event=Event.CALL_ANSWERED, caller=BOB.key, caller_name=ADA.key))
    assert await search(world, ADA) == []


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"event": "call:denied"},
        {"event": "call:failed"},
        {"resource": "vault"},
        {"resource": "nowhere"},
        {"tool": "app_get"},
    ],
)
async def test_ones_own_record_does_not_tell_a_hidden_app_from_a_missing_one(
    tmp_path: Path, filters: dict[str, str]
) -> None:
    found = []
    for name in ("vault", "nowhere"):
        folder = tmp_path / name
        folder.mkdir()
        world = make_world(folder)
        await world.fail("app_get", app=name)
        rows = (await world.ask("record_search", ADA, **filters))["records"]
        found.append(rows)
        assert name not in str(rows)
    assert found[0] == found[1]


async def test_an_auditor_does_tell_them_apart(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await world.fail("app_get", app="vault")
    await world.fail("app_get", app="nowhere")
    assert await search(world, event="call:denied") == [("Ada", "call:denied")]
    assert await search(world, resource="vault") == [("Ada", "call:denied")]


async def test_a_denial_that_was_told_as_one_stays_one(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await note(world, ADA, Event.CALL_DENIED, outcome="denied", resource="App::main/argocd/api", policies=("no",))
    (row,) = (await world.ask("record_search", ADA, event="call:denied"))["records"]
    assert (row["outcome"], row["policies"]) == ("denied", ["no"])


async def test_pages_show_every_record_once_and_cursors_are_bound(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    for _ in range(7):
        await note(world, ADA, Event.CALL_ANSWERED, tool="app_get")
        await note(world, BOB, Event.CALL_ANSWERED, tool="app_get")
    lines: list[str] = []
    answer = await world.ask("record_search", ADA, limit=3, tool="app_get")
    lines += [row["line"] for row in answer["records"]]
    cursor = answer["cursor"]
    while "cursor" in answer:
        answer = await world.ask("record_search", ADA, limit=3, tool="app_get", cursor=answer["cursor"])
        lines += [row["line"] for row in answer["records"]]
    assert lines == [f"serve-1/{number}" for number in range(13, 0, -2)]
    for caller, tool in ((AUDITOR, "app_get"), (ADA, "app_list")):
        error = await world.fail("record_search", caller, limit=3, tool=tool, cursor=cursor)
        assert (error.reason, error.field) == (Reason.INVALID, "cursor")


async def test_a_thing_finds_all_of_its_events_and_an_unknown_event_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    await note(world, BOB, Event.CALL_ANSWERED, proposal="p1")
    await note(world, BOB, Event.PROPOSAL_APPROVED, proposal="p1")
    await note(world, BOB, Event.PROPOSAL_APPLIED, proposal="p1")
    assert await search(world, event="proposal") == [("Bob", "proposal:applied"), ("Bob", "proposal:approved")]
    assert (await world.fail("record_search", AUDITOR, event="proposals")).field == "event"
