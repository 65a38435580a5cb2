"""Targets that move while a proposal waits: told on its page, by the field, before anybody approves."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from arborgate.policies.errors import Unavailable
from arborgate.server.web.moved import MOST_READ, Lookout, Standing
from arborgate.tools.change import Change, ChangeKind, Check, JsonObject, Target
from arborgate.tools.plan import Undo, make_change
from arborgate.tools.proposal import Proposal, ProposalState
from tests.server.web.world import World
from tests.tools.world import CLUSTER, make_app

pytestmark = pytest.mark.anyio


@dataclass
class LiveObjects:
    """Live objects by their targets' names; of what is `away` nobody hears."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    away: bool = False
    slow: asyncio.Event | None = None
    asked: int = 0

    async def read(self, target: Target) -> JsonObject | None:
        self.asked += 1
        if self.slow:
            await self.slow.wait()
        if self.away:
            raise Unavailable("The cluster main does not answer.")
        return self.objects.get(target.name)


def make_object(name: str, version: str = "1", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Application",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version},
        "spec": {"source": {"targetRevision": "v2", "path": "a"}, **spec},
    }


def plan(name: str = "orders-api", undo: Undo | None = None, live: Mapping[str, Any] | None = None) -> Change:
    target = Target(
        app=f"{CLUSTER}/argocd/{name}",
        cluster=CLUSTER,
        api="argoproj.io/v1alpha1",
        kind="Application",
        namespace="argocd",
        name=name,
    )
    patch = {"spec": {"source": {"targetRevision": "v1", "path": "b"}}}
    check = Check(app=target.app)
    kind = ChangeKind.SET_REVISION
    return make_change(kind, target, live or make_object(name), patch, summary="Go", check=check, wave=0, undo=undo)


async def look(world: World, live: LiveObjects, *changes: Change, within: float = 5.0) -> Any:
    return await Lookout(world.tree, live).look(await world.propose(*changes), within)


def moved_object(**source: str) -> dict[str, Any]:
    found = make_object("orders-api", "2")
    found["spec"]["source"].update(source)
    return found


@pytest.fixture
async def moving(world: World) -> World:
    """The tree has seen another version of the app than was planned on, as after any update of its status."""
    world.tree.put(make_app("orders-api", env="prod", parent="orders", resource_version="2"))
    return world


async def test_a_status_that_moved_is_no_target_that_moved(moving: World) -> None:
    found = await look(moving, LiveObjects({"orders-api": moved_object()}), plan())
    assert (found.moved, found.unknown, found.same) == ((), 0, 1)


async def test_the_field_that_moved_is_named(moving: World) -> None:
    found = await look(moving, LiveObjects({"orders-api": moved_object(targetRevision="v3")}), plan())
    (one,) = found.moved
    assert (one.standing, one.fields, one.sure) == (Standing.MOVED, ("/spec/source/targetRevision",), True)


async def test_where_nobody_knows_what_it_was_every_watched_field_is_named(moving: World) -> None:
    change = plan(undo=Undo(None, "no way back"))
    found = await look(moving, LiveObjects({"orders-api": moved_object(path="c")}), change)
    (one,) = found.moved
    assert (one.fields, one.sure) == (("/spec/source/path", "/spec/source/targetRevision"), False)


async def test_what_is_gone_or_was_made_anew_is_told(moving: World) -> None:
    other = make_object("orders-api")
    other["metadata"]["uid"] = "another"
    for objects, standing in (({}, Standing.GONE), ({"orders-api": other}, Standing.REPLACED)):
        found = await look(moving, LiveObjects(objects), plan())
        assert [one.standing for one in found.moved] == [standing]


async def test_what_cannot_be_read_is_unknown_and_never_the_same(moving: World) -> None:
    silent = LiveObjects(slow=asyncio.Event())
    for live, within in ((LiveObjects(away=True), 5.0), (silent, 0.01), (LiveObjects({"orders-api": {}}), 5.0)):
        found = await look(moving, live, plan(), within=within)
        assert (found.moved, found.unknown, found.same) == ((), 1, 0)
    nobody = await Lookout(moving.tree, None).look(await moving.propose(plan()), 1.0)
    assert nobody
    assert nobody.unknown == 1


async def test_what_the_current_tree_knows_for_unmoved_is_not_read(world: World) -> None:
    live = LiveObjects()
    found = await look(world, live, plan())
    assert (found.same, live.asked) == (1, 0)


async def test_one_look_reads_no_more_than_so_many_objects(world: World) -> None:
    changes = [plan(f"app-{number}") for number in range(MOST_READ + 6)]
    live = LiveObjects({change.target.name: make_object(change.target.name, "9") for change in changes})
    found = await look(world, live, *changes)
    assert (found.same, found.unknown, live.asked) == (MOST_READ, 6, MOST_READ)


@pytest.mark.parametrize("state", [ProposalState.APPROVED, ProposalState.APPLYING, ProposalState.ROLLED_BACK])
async def test_what_is_past_waiting_is_not_looked_at(moving: World, state: ProposalState) -> None:
    proposal = await moving.propose(plan())
    past: Proposal = proposal.model_copy(update={"state": state})
    assert await Lookout(moving.tree, LiveObjects()).look(past, 1.0) is None


async def test_the_page_says_what_moved_before_anybody_approves(moving: World) -> None:
    live = LiveObjects({"orders-api": moved_object()})
    moving.change(live=live)
    proposal = await moving.propose(plan())
    april = await moving.enter("april", "approver")
    path = f"/proposals/{proposal.id}"
    assert "Nothing that it touches has moved" in (await april.get(path)).text
    live.objects["orders-api"] = moved_object(path="c")
    for address in (path, f"{path}/moved"):
        html = (await april.get(address)).text
        assert "Its target has moved since this was planned." in html
        assert "<code>/spec/source/path</code>" in html
    live.away = True
    assert "can’t be told here" in (await april.get(f"{path}/moved")).text


async def test_what_moved_is_told_to_readers_of_the_proposal_alone(moving: World) -> None:
    proposal = await moving.propose(plan())
    nora = await moving.enter("nora")
    answer = await nora.get(f"/proposals/{proposal.id}/moved")
    assert (answer.status_code, "orders-api" in answer.text) == (404, False)
