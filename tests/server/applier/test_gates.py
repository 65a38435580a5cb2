"""Between two waves: all of the first has worked, has stayed so for its bake time, and nothing beside it broke."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from arborgate.policies.errors import Unavailable
from arborgate.server.applier_settings import GateSettings, ProbeSettings
from arborgate.server.gates import hold_to
from arborgate.server.proposals import ProposalBook
from arborgate.server.settings import Settings
from arborgate.tools.change import Change, Target
from arborgate.tools.probes import RedisProbe
from tests.server.applier.cluster import make_app
from tests.server.applier.test_crashes import Crash, resume, swap
from tests.server.applier.world import CLUSTER, World

pytestmark = pytest.mark.anyio

Sleeping = Callable[[int], None]


def when_asleep(world: World, happen: Sleeping) -> list[float]:
    """Calls `happen` with the number of each sleep of the applier; returns when each sleep began."""
    began: list[float] = []

    async def sleep(seconds: float) -> None:
        began.append(world.clock())
        await world.clock.sleep(seconds)
        happen(len(began))

    world.worker._pace = replace(world.worker._pace, sleep=sleep)
    return began


def configure(world: World, **applier: Any) -> None:
    """Another applier with these settings."""
    raw = {"environments": [{"name": "production", "strict": True, "labels": {"env": "production"}}]}
    world.settings = Settings.model_validate({**raw, "applier": applier, "proposals": {"expire_after": 3600}})
    world.worker = world.make_worker()


def bake(change: Change, seconds: int) -> Change:
    return change.model_copy(update={"check": change.check.model_copy(update={"bake": seconds})})


def set_health(world: World, name: str, health: str) -> None:
    world.cluster.edit("Application", name, {"status": {"health": {"status": health}}})
    world.relist(name)


def add_family(world: World) -> None:
    """A parent `shop` over db, api and web, and the siblings `cart` and `mail`."""
    parent = make_app("shop", wave=0, environment="production")
    names = ("db", "api", "web", "cart", "mail")
    parent["status"]["resources"] = [
        {
            "group": "argoproj.io",
            "version": "v1alpha1",
            "kind": "Application",
            "namespace": "argocd",
            "name": name,
            "status": "Synced",
        }
        for name in names
    ]
    world.cluster.add(parent)
    for name in ("cart", "mail"):
        world.cluster.add(make_app(name, wave=0, environment="production"))
    for name in ("shop", *names):
        world.relist(name)
    assert world.node("cart").parent == world.node("shop").app.id


# Waves


async def test_the_changes_of_a_wave_are_waited_for_together(world: World) -> None:
    """Three apps of one wave that all hang take the time of one."""
    for name in ("db", "api", "web"):
        world.cluster.edit("Application", name, {"metadata": {"annotations": {"argocd.argoproj.io/sync-wave": "0"}}})
        world.relist(name)
        world.cluster.breaks.add(name)
    proposal = await world.approved(world.scale("db"), world.scale("api"), world.scale("web"))
    began = world.clock()
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "rolled_back"
    assert 300 <= world.clock() - began < 310


async def test_a_failure_in_a_wave_is_seen_while_another_change_of_it_still_waits(world: World) -> None:
    for name in ("db", "api"):
        world.cluster.edit("Application", name, {"metadata": {"annotations": {"argocd.argoproj.io/sync-wave": "0"}}})
        world.relist(name)
    world.cluster.breaks.add("db")
    proposal = await world.approved(world.scale("db"), world.sync("api"))
    began = world.clock()
    patch = world.cluster.apply

    async def patch_and_fail(target: Target, *rest: Any) -> Any:
        answer = await patch(target, *rest)
        if target.name == "api" and target.kind == "Application":
            state = {"phase": "Failed", "message": "hook", "startedAt": "now"}
            world.cluster.edit("Application", "api", {"status": {"operationState": state}})
        return answer

    swap(world.cluster, "apply", patch_and_fail)
    await world.worker.advance(proposal.id)
    note = (await world.book.get(proposal.id)).state_note
    assert "The operation ended as Failed: hook" in note
    assert world.clock() - began < 10


async def test_a_wave_that_was_well_and_broke_while_the_next_was_at_work_is_undone(world: World) -> None:
    world.cluster.breaks.add("api")
    proposal = await world.approved(world.scale("db"), world.scale("api"))
    began = world.clock()
    when_asleep(world, lambda count: set_health(world, "db", "Degraded") if count == 3 else None)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert done.state_note.startswith("It was well, and is no longer. The app is Degraded")
    assert world.clock() - began < 60


# Bake time


async def test_the_next_wave_begins_when_the_one_before_has_been_well_for_its_bake_time(world: World) -> None:
    proposal = await world.approved(bake(world.scale("db"), 60), world.scale("api"))
    when: dict[str, float] = {}

    def note(target: Target) -> None:
        when.setdefault(target.name, world.clock())

    world.cluster.before_patch = note
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
    assert 60 <= when["api"] - when["db"] < 70


async def test_the_settings_of_the_applier_bake_by_environment(world: World) -> None:
    configure(world, bake={"production": 45})
    proposal = await world.approved(world.scale("db"))
    began = world.clock()
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"
    assert 45 <= world.clock() - began < 55


async def test_what_breaks_while_it_bakes_is_undone(world: World) -> None:
    proposal = await world.approved(bake(world.scale("db"), 60), world.scale("api"))
    when_asleep(world, lambda count: set_health(world, "db", "Degraded") if count == 5 else None)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, done.state_note) == (
        "rolled_back",
        "It was well, and is no longer. The app is Degraded, not Healthy.",
    )
    assert [name for name, _ in world.cluster.patched] == ["db", "db"]


async def test_one_bad_look_while_it_bakes_is_not_believed(world: World) -> None:
    proposal = await world.approved(bake(world.scale("db"), 60))

    def flap(count: int) -> None:
        set_health(world, "db", "Degraded" if count % 20 == 5 else "Healthy")

    when_asleep(world, flap)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_what_does_not_settle_again_after_its_bake_time_is_undone(world: World) -> None:
    proposal = await world.approved(bake(world.scale("db"), 60))
    began = world.clock()
    when_asleep(world, lambda count: set_health(world, "db", "Progressing") if count == 5 else None)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, "Progressing" in done.state_note) == ("rolled_back", True)
    assert 300 <= world.clock() - began < 330


async def test_a_bake_goes_on_after_a_crash_where_it_was(world: World) -> None:
    proposal = await world.approved(bake(world.scale("db"), 100))

    async def crash(seconds: float) -> None:
        await world.clock.sleep(seconds)
        if world.clock() - began > 70:
            raise Crash

    worker = world.make_worker()
    worker._pace = replace(worker._pace, sleep=crash)
    began = world.clock()
    with pytest.raises(Crash):
        await worker.advance(proposal.id)
    assert (await resume(world, proposal)).state == "applied"
    assert 100 <= world.clock() - began < 110


async def test_while_the_cluster_does_not_answer_a_bake_does_not_end(world: World) -> None:
    proposal = await world.approved(bake(world.scale("db"), 20))

    def silence(count: int) -> None:
        world.cluster.answers = count < 5

    when_asleep(world, silence)
    with pytest.raises(Unavailable):
        await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applying"
    world.cluster.answers = True
    assert (await resume(world, proposal)).state == "applied"


# Siblings


async def test_a_sibling_that_breaks_while_a_wave_is_at_work_ends_and_undoes_it(world: World) -> None:
    add_family(world)
    proposal = await world.approved(bake(world.scale("db"), 600), world.scale("api"))
    when_asleep(world, lambda count: set_health(world, "cart", "Degraded") if count == 4 else None)
    began = world.clock()
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, done.state_note) == ("rolled_back", "cart beside it is Degraded, and was Healthy before.")
    assert world.clock() - began < 60
    assert [name for name, _ in world.cluster.patched] == ["db", "db"]


@pytest.mark.parametrize("harmed", ["shop", "mail"])
async def test_parents_and_siblings_are_watched_and_one_that_goes_counts_as_broken(world: World, harmed: str) -> None:
    add_family(world)
    proposal = await world.approved(bake(world.scale("db"), 600))

    def remove(count: int) -> None:
        if count == 4:
            world.tree.remove(world.node(harmed).app.id)

    when_asleep(world, remove)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state_note == f"{harmed} beside it is gone, and was Healthy before."


async def test_a_sibling_that_was_broken_before_is_no_harm(world: World) -> None:
    add_family(world)
    set_health(world, "cart", "Degraded")
    set_health(world, "mail", "Progressing")
    proposal = await world.approved(bake(world.scale("db"), 60))
    when_asleep(world, lambda count: set_health(world, "mail", "Missing") if count == 4 else None)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_a_sibling_that_flaps_for_one_look_is_no_harm(world: World) -> None:
    add_family(world)
    proposal = await world.approved(bake(world.scale("db"), 60))

    def flap(count: int) -> None:
        set_health(world, "cart", "Degraded" if count % 20 == 5 else "Healthy")

    when_asleep(world, flap)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_a_parent_is_not_blamed_while_a_changed_child_is_on_its_way(world: World) -> None:
    """The child has a time of its own to get there, and its parent shows what the child is."""
    add_family(world)
    world.cluster.breaks.add("db")
    proposal = await world.approved(world.scale("db"))

    def recover(count: int) -> None:
        world.relist("db")
        set_health(world, "shop", "Degraded" if count < 20 else "Healthy")
        if count == 20:
            set_health(world, "db", "Healthy")

    when_asleep(world, recover)
    await world.worker.advance(proposal.id)
    done = await world.book.get(proposal.id)
    assert (done.state, done.state_note) == ("applied", "")


async def test_who_was_well_before_is_known_after_a_crash(world: World) -> None:
    add_family(world)
    proposal = await world.approved(bake(world.scale("db"), 600))

    async def crash(_: float) -> None:
        raise Crash

    worker = world.make_worker()
    worker._pace = replace(worker._pace, sleep=crash)
    with pytest.raises(Crash):
        await worker.advance(proposal.id)
    set_health(world, "cart", "Degraded")
    done = await resume(world, proposal)
    assert (done.state, done.state_note) == ("rolled_back", "cart beside it is Degraded, and was Healthy before.")
    assert await world.redis.get(world.state.key("siblings", proposal.id)) is None, "it is put away at the end"


async def test_siblings_are_left_alone_where_the_settings_say_so(world: World) -> None:
    configure(world, watch_siblings=False)
    add_family(world)
    proposal = await world.approved(bake(world.scale("db"), 60))
    when_asleep(world, lambda count: set_health(world, "cart", "Degraded") if count == 4 else None)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


async def test_a_tree_that_is_too_old_says_nothing_of_harm(world: World) -> None:
    add_family(world)
    proposal = await world.approved(bake(world.scale("db"), 60))

    def age(count: int) -> None:
        if count == 4:
            set_health(world, "cart", "Degraded")
            world.tree.heard(CLUSTER, "1", -1_000.0)

    when_asleep(world, age)
    await world.worker.advance(proposal.id)
    assert (await world.book.get(proposal.id)).state == "applied"


# What is asked of a change


async def test_what_the_settings_ask_is_part_of_what_is_approved(world: World) -> None:
    configure(world, bake={"production": 45})
    hold = partial(hold_to, tree=world.tree, settings=world.settings.applier)
    book = ProposalBook(world.state, world.audit, world.settings.proposals, world.clock, hold=hold)
    world.book = book
    proposal = await world.propose(world.scale("db"), bake(world.scale("api"), 90))
    assert proposal.state == "proposed", proposal.state_note
    assert [change.check.bake for change in proposal.content.changes] == [45, 90]


def test_what_the_settings_ask_is_the_more_of_both(world: World) -> None:
    own, shared = RedisProbe(source="cache"), RedisProbe(source="cache", replicas=1)
    asked = {"api": (shared,), "main/argocd/web": (own,), "web": (shared,)}
    settings = GateSettings(bake={"production": 45, "unassigned": 7}, probes=ProbeSettings(apps=asked))
    hold = partial(hold_to, tree=world.tree, settings=settings)
    api = hold(bake(world.scale("api"), 10)).check
    assert (api.bake, api.probes) == (45, (shared,))
    assert hold(hold(world.scale("api"))) == hold(world.scale("api"))
    assert hold(world.scale("web")).check.probes == (own,), "the whole id wins over the name"
    assert hold(world.scale("db")).check.probes == ()
    away = world.scale("db")
    world.tree.remove(world.node("db").app.id)
    assert hold(away).check.bake == 7
