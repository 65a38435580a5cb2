"""Two sets over one past: what flips is what a plain Cedar decides otherwise, no more and no less."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arborgate.policies.agents import Agents
from arborgate.policies.engine import Engine, LoadedPolicies
from arborgate.policies.loader import assemble, read_policies
from arborgate.policies.model import INSTALLATION, NO_SCOPE, Action, ActionGroup, Caller, Channel, Question, Resource
from arborgate.policies.surroundings import Surroundings
from arborgate.server.audit import AuditLog
from arborgate.server.comparison import Comparison, compare_cases
from arborgate.server.replay import NO_FACTS, read_past
from arborgate.tools.record import Entry, Event
from tests.policies.plainly import is_allowed
from tests.policies.random_policies import ACTIONS, NOW, RESOURCES, callers, policy_sets, read, resources
from tests.policies.writing import TRUSTING, app, environment, keyspace, person
from tests.server.pasts import ask, entry_of, write, write_past

pytestmark = pytest.mark.anyio

RANDOM = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
AROUND = Surroundings(Agents(trusted=("copilot",)))

DEV, PROD = environment("dev", strict=False), environment("prod", strict=True)
SHOP, TOYS, BANK = app("shop", PROD), app("toys", DEV), app("bank", PROD)
VERA = person("vera", "viewer")


def questions() -> st.SearchStrategy[list[Question]]:
    """Calls about one or two resources, some of them twice."""
    one = st.builds(
        Question,
        callers(),
        st.sampled_from(ACTIONS),
        st.lists(resources(), min_size=1, max_size=2).map(tuple),
        at=st.sampled_from([NOW, NOW + 600, NOW + 901]),
    )
    return st.lists(one, min_size=1, max_size=15).flatmap(
        lambda some: st.lists(st.sampled_from(some), max_size=10).map(lambda again: [*some, *again])
    )


def make_set(text: str) -> LoadedPolicies:
    return assemble(read(text), digest=f"{len(text)}")


def compare(old: LoadedPolicies, new: LoadedPolicies, *paths: Path, today: Surroundings = AROUND) -> Comparison:
    comparison = Comparison(old, new, today)
    for path in paths:
        for past in read_past(path, comparison.archive):
            comparison.take(past)
    return comparison


def replay(old: LoadedPolicies, new: LoadedPolicies, asked: list[Question]) -> Comparison:
    """Written by the old set, decided again by both."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(replace(old, digest="old"), surroundings=AROUND)
        path = asyncio.run(write_past(Path(folder), engine, asked))
        return compare(old, new, path, today=Surroundings())


@RANDOM
@given(policy_sets(), questions())
def test_the_set_that_made_a_past_flips_nothing_in_it(loaded: LoadedPolicies, asked: list[Question]) -> None:
    found = replay(loaded, loaded, asked)

    assert (found.flips, found.compare_lists(), found.tally.otherwise, found.tally.around_today) == ([], [], 0, 0)
    assert found.tally.replayed + found.tally.skipped.total() == len(asked)


@RANDOM
@given(policy_sets(), policy_sets(), questions())
def test_each_flip_is_real_and_none_is_missed(old: LoadedPolicies, new: LoadedPolicies, asked: list[Question]) -> None:
    found = replay(old, new, asked)
    plain = [(is_allowed(old, each, AROUND), is_allowed(new, each, AROUND), each) for each in asked]

    flips = {(flip.caller, flip.action, flip.resources, flip.old.allowed, flip.new.allowed): 0 for flip in found.flips}
    for flip in found.flips:
        flips[flip.caller, flip.action, flip.resources, flip.old.allowed, flip.new.allowed] += flip.count
    expected: dict[object, int] = {}
    for was, now, each in plain:
        if was is not now:
            caller = replace(each.caller, authenticated_at=0)
            key = (caller, each.action, each.resources, was, now)
            expected[key] = expected.get(key, 0) + 1
    assert flips == expected
    assert found.tally.opened == sum(now for was, now, _ in plain if was is not now)
    assert found.tally.closed == sum(was for was, now, _ in plain if was is not now)


@RANDOM
@given(policy_sets(), policy_sets(), st.lists(callers(), min_size=1, max_size=4), st.lists(resources(), max_size=4))
def test_lists_flip_in_what_a_plain_cedar_shows_otherwise(
    old: LoadedPolicies, new: LoadedPolicies, people: list[Caller], seen: list[Resource]
) -> None:
    asked = [ask(each, Action.APP_LIST, INSTALLATION) for each in people]
    asked += [ask(people[0], Action.APP_READ, each) for each in seen if each.type == "App"]
    found = replay(old, new, asked)
    apps = {each.id: each for resource in seen if resource.type == "App" for each in (resource, *resource.parents)}
    apps = {name: each for name, each in apps.items() if each.type == "App"}

    def shown(loaded: LoadedPolicies, caller: Caller) -> set[str]:
        if not is_allowed(loaded, ask(caller, Action.APP_LIST, INSTALLATION), AROUND):
            return set()
        return {name for name, each in apps.items() if is_allowed(loaded, ask(caller, Action.APP_READ, each), AROUND)}

    expected = {}
    for caller in {replace(each, authenticated_at=0) for each in people}:
        before, after = shown(old, caller), shown(new, caller)
        if before != after:
            expected[caller] = (after - before, before - after)
    lists = found.compare_lists()
    assert {
        flip.caller: ({each.id for each in flip.appearing}, {each.id for each in flip.vanishing}) for flip in lists
    } == expected


READING = '@id("viewers-read") permit (principal in Role::"viewer", action in Action::"read", resource);'
OPEN = (
    READING
    + '@id("viewers-see-values") permit (principal in Role::"viewer", action == Action::"redis:read_value", resource);'
)
LABELLED = (
    READING
    + """
@id("web-is-closed") forbid (principal, action == Action::"app:read", resource)
when { resource has labels && resource.labels.contains("tier=web") };
"""
)
TRUSTED = (
    READING
    + """
@id("strangers-stay-out") forbid (principal, action, resource) unless { context.trust == "trusted" };
"""
)
FRESH = """
@id("fresh-logins-withdraw") permit (principal, action == Action::"proposal:withdraw", resource)
when { context.login_age < 900 };
"""


async def test_what_was_asked_again_is_one_flip_with_its_times_and_the_newest_example(tmp_path: Path) -> None:
    keys = keyspace(SHOP)
    logins = [replace(VERA, authenticated_at=number) for number in (1, 2, 2)]
    old, new = make_set(READING), make_set(OPEN)
    path = await write_past(tmp_path, Engine(old), [ask(each, Action.REDIS_READ_VALUE, keys) for each in logins])

    (flip,) = compare(old, new, path).flips

    records = [past.record for past in read_past(path, Comparison(old, new, AROUND).archive) if past.record.tool]
    assert (flip.count, flip.first, flip.last) == (3, records[0].time, records[-1].time)
    assert (flip.example, flip.caller, flip.loud) == (
        f"serve-1:{records[-1].seq}",
        replace(VERA, authenticated_at=0),
        True,
    )
    assert (flip.old.policies, flip.new.policies) == ((), ("viewers-see-values",))


async def test_what_opens_comes_before_what_closes(tmp_path: Path) -> None:
    web = app("web", DEV, labels=("tier=web",))
    asked = [ask(VERA, Action.APP_READ, web)] * 3 + [ask(VERA, Action.REDIS_READ_VALUE, keyspace(TOYS))]
    old, new = make_set(READING), make_set(LABELLED + OPEN.removeprefix(READING))
    path = await write_past(tmp_path, Engine(old), asked)

    found = compare(old, new, path)

    assert [(flip.action, flip.loud, flip.count) for flip in found.flips] == [
        (Action.REDIS_READ_VALUE, True, 1),
        (Action.APP_READ, False, 3),
    ]
    assert (found.tally.replayed, found.tally.same, found.tally.opened, found.tally.closed) == (4, 0, 1, 3)


async def test_the_intent_of_a_tool_is_not_counted_beside_its_outcome(tmp_path: Path) -> None:
    old, asked = make_set(READING), ask(VERA, Action.APP_READ, TOYS)
    entry = entry_of(asked, Engine(old).answer(asked), "set")
    async with AuditLog.open(tmp_path, "serve-1") as log:
        await log.write(replace(entry, event=Event.CALL_INTENDED, outcome="intended"))
        await log.write(entry)
        await log.write(
            replace(entry, event=Event.CALL_INTENDED, outcome="intended", tool="")
        )  # a verdict on the pages

    assert compare(old, old, log.path).tally.replayed == 2


async def test_records_without_facts_are_counted_with_the_reason(tmp_path: Path) -> None:
    old, asked = make_set(READING), ask(VERA, Action.APP_READ, TOYS)
    entry = entry_of(asked, Engine(old).answer(asked), "set")
    async with AuditLog.open(tmp_path, "serve-1") as log:
        await log.write(replace(entry, question=None))
        await log.write(replace(entry, action="app:dance"))
        await log.write(Entry(event=Event.SESSION_STARTED))

    tally = compare(old, old, log.path).tally

    assert (tally.replayed, tally.skipped) == (0, {NO_FACTS: 1, "this version knows no action app:dance": 1})


async def test_what_was_redacted_counts_only_for_policies_that_look_at_it(tmp_path: Path) -> None:
    hidden = app("hidden", DEV, labels=("key=hunter2",))
    plain, labelled, asked = make_set(READING), make_set(LABELLED), ask(VERA, Action.APP_READ, hidden)
    async with AuditLog.open(tmp_path, "serve-1", lambda text: text.replace("hunter2", "(redacted)")) as log:
        await write(log, Engine(plain), [asked])

    assert compare(plain, plain, log.path).tally.replayed == 1
    found = compare(plain, labelled, log.path)
    assert (found.tally.replayed, found.tally.skipped.total()) == (0, 1)


async def test_a_redacted_name_is_never_decided_by(tmp_path: Path) -> None:
    old, asked = make_set(READING), ask(VERA, Action.APP_READ, app("hunter2", DEV))
    async with AuditLog.open(tmp_path, "serve-1", lambda text: text.replace("hunter2", "(redacted)")) as log:
        await write(log, Engine(old), [asked, ask(VERA, Action.APP_READ, app("below", app("hunter2", DEV), DEV))])

    assert compare(old, old, log.path).tally.replayed == 0


async def test_each_record_is_judged_by_the_settings_of_its_time(tmp_path: Path) -> None:
    trusted, asked = make_set(TRUSTED), ask(VERA, Action.APP_READ, TOYS)
    await write_past(tmp_path, Engine(trusted, surroundings=TRUSTING), [asked])
    path = await write_past(tmp_path, Engine(trusted, surroundings=Surroundings()), [asked])

    tally = compare(trusted, trusted, path, today=Surroundings()).tally

    assert (tally.replayed, tally.otherwise, tally.around_today) == (2, 0, 0)


async def test_where_the_settings_of_then_are_unknown_those_of_today_count_and_that_is_told(tmp_path: Path) -> None:
    trusted, asked = make_set(TRUSTED), ask(VERA, Action.APP_READ, TOYS)
    async with AuditLog.open(tmp_path, "serve-1") as log:
        await write(log, Engine(trusted, surroundings=TRUSTING), [asked])

    tally = compare(trusted, trusted, log.path, today=Surroundings()).tally

    assert (tally.replayed, tally.otherwise, tally.around_today) == (1, 1, 1)


async def test_a_login_is_as_old_as_it_was(tmp_path: Path) -> None:
    old = make_set(FRESH)
    vera = replace(person("vera", channel=Channel.PAGES), authenticated_at=NOW)
    proposal = next(each for each in RESOURCES if each.id == "high")
    asked = [ask(vera, Action.PROPOSAL_WITHDRAW, proposal, at=at) for at in (NOW + 899, NOW + 900)]
    path = await write_past(tmp_path, Engine(old), asked)

    tally = compare(old, old, path).tally

    assert (tally.replayed, tally.otherwise) == (2, 0)


async def test_a_scope_that_was_lacking_is_lacking_again(tmp_path: Path) -> None:
    old, new = make_set(READING), make_set(OPEN)
    narrow = replace(VERA, withheld=((ActionGroup.READ_SENSITIVE, "values"),))
    asked = Question(narrow, Action.REDIS_READ_VALUE, ())
    async with AuditLog.open(tmp_path, "serve-1") as log:
        await log.write(entry_of(asked, NO_SCOPE, "set"))
        await write(log, Engine(old), [ask(narrow, Action.REDIS_READ_VALUE, keyspace(TOYS))])

    assert (compare(old, new, log.path).tally.same, compare(old, new, log.path).flips) == (2, [])


async def test_only_the_window_is_decided_again_on_facts_from_before_it(tmp_path: Path) -> None:
    old, new, asked = make_set(READING), make_set(OPEN), ask(VERA, Action.REDIS_READ_VALUE, keyspace(TOYS))
    path = await write_past(tmp_path, Engine(old), [asked, asked])
    comparison = Comparison(old, new, AROUND)
    times = [past.record.time for past in read_past(path, comparison.archive) if past.record.tool]
    path_2 = await write_past(tmp_path / "later", Engine(old), [asked, asked, asked], replica="serve-2")

    found = Comparison(old, new, AROUND)
    for each in (path, path_2):
        for past in read_past(each, found.archive, since=times[-1], until=times[-1]):
            found.take(past)

    assert found.tally.replayed == 2  # both of that batch: it has one time


async def test_a_list_is_compared_over_the_newest_facts_of_each_app(tmp_path: Path) -> None:
    old, new = make_set(READING), make_set(LABELLED)
    before, after = app("toys", DEV), app("toys", DEV, labels=("tier=web",))
    asked = [ask(VERA, Action.APP_LIST, INSTALLATION)]
    async with AuditLog.open(tmp_path, "serve-1") as log:
        for each in (before, after, BANK):
            await write(log, Engine(old), [ask(person("mona", "viewer"), Action.APP_READ, each)])
        await write(log, Engine(old), asked)

    found = compare(old, new, log.path)

    (flip,) = found.compare_lists()
    assert (flip.caller.subject, flip.appearing, [each.id for each in flip.vanishing]) == (
        "vera",
        (),
        ["main/argocd/toys"],
    )
    assert found.listed == (1, 2)


async def test_nobody_sees_rows_of_a_list_they_may_not_open(tmp_path: Path) -> None:
    old = make_set(READING)
    new = make_set(READING + '@id("no-lists") forbid (principal, action == Action::"app:list", resource);')
    path = await write_past(
        tmp_path, Engine(old), [ask(VERA, Action.APP_LIST, INSTALLATION), ask(VERA, Action.APP_READ, TOYS)]
    )

    (flip,) = compare(old, new, path).compare_lists()

    assert [each.id for each in flip.vanishing] == ["main/argocd/toys"]


def test_cases_that_both_sets_decide_are_compared_once() -> None:
    shipped, cases = read_policies(None)
    listed = list(shipped.statements.values())
    without = assemble([each for each in listed if each.id != "developers-propose"])

    asked, flips = compare_cases(shipped, without, [*cases, *cases])

    assert asked <= len(cases)
    assert flips
    assert all("developers-propose" in flip.old.policies and not flip.new.allowed for flip in flips)
