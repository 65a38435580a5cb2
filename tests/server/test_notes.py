"""What decisions are made on is in the same file, once, before the first line that names it, and holds with the chain."""

import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.errors import Unrecorded
from arborgate.policies.facts import describe_caller, describe_resource, describe_surroundings
from arborgate.policies.loader import Policies, Reload, read_policies
from arborgate.policies.model import INSTALLATION, Action, Question
from arborgate.server.audit import AuditLog
from arborgate.server.chain import open_line, read_records, verify
from arborgate.server.foundation import _watch_policies
from arborgate.server.replay import Archive
from arborgate.tools.record import Entry, Event, Record
from tests.policies.writing import TRUSTING, app, environment, person
from tests.server.pasts import ask, entry_of, write, write_past

pytestmark = pytest.mark.anyio

ENGINE = Engine(read_policies(None)[0], surroundings=TRUSTING)
DEV = environment("dev", strict=False)
PARENT = app("parent", DEV)
CHILD, OTHER = app("child", PARENT, DEV), app("other", PARENT, DEV)
VERA = person("vera", "viewer")


def read_all(path: Path) -> list[Record]:
    return [record for record, _ in read_records(path)]


def noted(records: list[Record]) -> list[str]:
    """What the facts tell of, in order."""
    return [
        str(record.facts.get("id") or record.facts["subject"])
        for record in records
        if "v" in record.facts and record.facts["kind"] != "surroundings"
    ]


def check_order(records: list[Record]) -> None:
    """Every digest that a line names was told before it."""
    archive = Archive()
    for record in records:
        if record.event is Event.FACTS_NOTED:
            archive.note(record.facts)
        elif record.asker:
            archive.question(record)


async def test_facts_are_told_once_before_the_first_line_that_rests_on_them(tmp_path: Path) -> None:
    path = await write_past(
        tmp_path,
        ENGINE,
        [ask(VERA, Action.APP_READ, CHILD), ask(VERA, Action.APP_READ, OTHER), ask(VERA, Action.APP_READ, CHILD)],
    )
    records = read_all(path)

    assert noted(records) == [
        "vera",
        "arborgate",
        "dev",
        "main/argocd/parent",
        "main/argocd/child",
        "main/argocd/other",
    ]
    check_order(records)
    assert verify(path).whole
    assert [record.places for record in records if record.tool] == [
        (describe_resource(each).digest,) for each in (CHILD, OTHER, CHILD)
    ]


async def test_a_decision_comes_back_as_the_question_it_was(tmp_path: Path) -> None:
    proposal = replace(CHILD, attributes=CHILD.attributes)
    asked = Question(
        VERA, Action.PROPOSAL_APPLY, (CHILD, proposal), ((("applied_today", 3),), (("applied_today", 4),)), 7.5
    )
    path = await write_past(tmp_path, ENGINE, [asked])
    archive, records = Archive(), read_all(path)
    for record in records:
        archive.note(record.facts)

    assert archive.question(records[-1]) == asked
    assert (records[-1].decided_at, records[-1].context) == (7.5, ({"applied_today": 3}, {"applied_today": 4}))


async def test_what_is_read_is_what_was_returned_when_it_was_written(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1") as log:
        asked = Question(VERA, Action.PROPOSAL_APPLY, (CHILD,), ((("applied_today", 3),),), 7.5)
        (record,) = await write(log, ENGINE, [asked])
        assert open_line(log.path.read_bytes().splitlines()[-1]) == record


async def test_each_run_tells_its_facts_again(tmp_path: Path) -> None:
    paths = [await write_past(tmp_path, ENGINE, [ask(VERA, Action.APP_READ, CHILD)]) for _ in range(2)]

    assert noted(read_all(paths[1])).count("vera") == 2


async def test_equal_objects_are_told_once(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1") as log:
        for _ in range(3):
            again = app("child", app("parent", DEV), DEV)
            await write(log, ENGINE, [ask(person("vera", "viewer"), Action.APP_READ, again)])

    assert noted(read_all(log.path)).count("main/argocd/child") == 1


async def test_facts_that_could_not_be_written_are_told_with_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fdatasync

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    async with AuditLog.open(tmp_path, "serve-1") as log:
        monkeypatch.setattr(os, "fdatasync", refuse)
        with pytest.raises(Unrecorded):
            await write(log, ENGINE, [ask(VERA, Action.APP_READ, CHILD)])
        monkeypatch.setattr(os, "fdatasync", sync)
        await write(log, ENGINE, [ask(VERA, Action.APP_READ, CHILD)])
    check_order(read_all(log.path))
    assert noted(read_all(log.path)).count("main/argocd/child") == 1


async def test_facts_share_the_sync_of_the_line_that_rests_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = 0
    sync = os.fdatasync

    def count(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        sync(descriptor)

    async with AuditLog.open(tmp_path, "serve-1") as log:
        monkeypatch.setattr(os, "fdatasync", count)
        await write(log, ENGINE, [ask(VERA, Action.APP_READ, CHILD)])
    assert syncs == 1


async def test_secrets_in_what_comes_from_outside_are_no_facts(tmp_path: Path) -> None:
    leaky = app("leaky", DEV, labels=("password=hunter2",))
    async with AuditLog.open(tmp_path, "serve-1", lambda text: text.replace("hunter2", "(redacted)")) as log:
        await write(log, ENGINE, [ask(VERA, Action.APP_READ, leaky)])
    assert b"hunter2" not in log.path.read_bytes()
    assert [record.facts.get("altered") for record in read_all(log.path) if record.facts][-1] == ["labels"]


async def test_a_record_does_not_fail_for_want_of_its_facts(tmp_path: Path) -> None:
    strange = app("strange", DEV, labels=("half a character: \ud800",))
    question = ask(VERA, Action.APP_READ, strange)
    async with AuditLog.open(tmp_path, "serve-1") as log:
        record = await log.write(entry_of(question, ENGINE.answer(question), "set"))
    assert (record.decision, record.asker, record.places) == ("allow", "", ())


async def test_a_lost_memory_only_repeats_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arborgate.server.notes._MOST_HELD", 3)
    people = [person(name, "viewer") for name in "abcdefgh"]
    async with AuditLog.open(tmp_path, "serve-1") as log:
        for each in [*people, *people]:
            await write(log, ENGINE, [ask(each, Action.APP_READ, CHILD)])
    check_order(read_all(log.path))


async def test_records_without_a_decision_name_no_facts(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1") as log:
        record = await log.write(Entry(event=Event.CALLER_REJECTED))
    assert (record.asker, record.places, record.settings) == ("", (), "")


async def test_each_login_is_a_fact_of_its_own(tmp_path: Path) -> None:
    callers = [replace(VERA, authenticated_at=number) for number in range(1, 4)]
    path = await write_past(tmp_path, ENGINE, [ask(each, Action.APP_LIST, INSTALLATION) for each in callers])

    assert [record.asker for record in read_all(path) if record.tool] == [
        describe_caller(each).digest for each in callers
    ]


async def test_a_reload_tells_what_the_settings_say_too(tmp_path: Path) -> None:
    class Reloaded:
        current = ENGINE

        async def watch(self, tell: Callable[[Reload], Awaitable[None]]) -> None:
            await tell(Reload("another set"))

    async with AuditLog.open(tmp_path, "serve-1") as log:
        await _watch_policies(cast("Policies", Reloaded()), log)
    (loaded,) = [record for record in read_all(log.path) if record.event is Event.POLICY_LOADED]
    assert (loaded.policy_set, loaded.settings) == ("another set", describe_surroundings(TRUSTING).digest)
