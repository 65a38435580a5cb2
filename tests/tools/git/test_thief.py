"""What a thief with `serve` and Redis tries on the applier's commits."""

from dataclasses import replace

import pytest

from arborgate.policies.errors import Refused, Stale
from arborgate.tools.git.changes import make_commit
from arborgate.tools.git.places import Books
from arborgate.tools.git.retelling import list_retellings
from arborgate.tools.kubernetes.changes import MARK
from arborgate.tools.retelling import retell
from arborgate.tools.rollouts.changes import plan_scale
from tests.tools.git.desk import ASKED, Desk
from tests.tools.git.repository import API, api_node

pytestmark = pytest.mark.anyio

OLD = "registry.example.org/shop/api:1.4.2"


async def test_what_was_committed_once_is_not_committed_again_after_others_took_it_back(desk: Desk) -> None:
    plan = await desk.plan()
    await desk.apply(plan)
    await desk.apply(await desk.plan(OLD), asked=replace(ASKED, proposal="p-2"))
    assert desk.file() == API
    with pytest.raises(Stale, match="before"):
        await desk.apply(plan)
    assert desk.file() == API
    assert len(desk.messages()) == 3


async def test_what_is_committed_already_is_found_done(desk: Desk) -> None:
    plan = await desk.plan()
    first = await desk.apply(plan)
    again = await desk.apply(plan)
    assert again["metadata"]["annotations"] == first["metadata"]["annotations"] == {MARK: "p-1/0"}
    assert len(desk.messages()) == 2


async def test_an_application_has_no_replicas_to_scale_by_a_commit(desk: Desk) -> None:
    node, live = api_node(desk.tree), await desk.read()
    change = make_commit(plan_scale(node, desk.target, live, replicas=5, ignored=True), node, desk.target, live).change
    retellings = list_retellings(Books(desk.source.books.settings))
    with pytest.raises(Refused):
        retell(retellings, node, change, live, proposed_at=0.0)
