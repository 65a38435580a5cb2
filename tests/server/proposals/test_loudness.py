"""Broken glass can be seen from outside: counted as it is broken, and told at each look at readiness until reviewed."""

import pytest

from arborgate.policies.loader import Policies
from arborgate.server.metrics import Metrics
from arborgate.server.proposals import ProposalBook
from arborgate.server.readiness import Readiness
from arborgate.tools.argocd.source import ArgoCD
from arborgate.tools.kubernetes.source import Clusters
from arborgate.tools.proposal import Finding, GlassReview, Requester, Verdict
from tests.server.applier.world import World, make_person

pytestmark = pytest.mark.anyio


async def test_it_is_counted_and_waits_in_sight_until_it_is_reviewed(world: World) -> None:
    metrics = Metrics()
    book = ProposalBook(
        world.state, world.audit, world.settings.proposals, world.clock, count_broken=metrics.count_broken_glass
    )
    argocd = ArgoCD(Clusters({}), world.tree, world.environments, {}, namespaces={}, workloads=frozenset())
    readiness = Readiness(argocd, book, Policies(None), metrics)

    async def told() -> list[str]:
        _, shown = await readiness.check()
        assert shown["state"] == {"answers": True}
        lines = metrics.render().decode().splitlines()
        return [
            line for line in lines if line.startswith(("arborgate_glass_broken_total", "arborgate_glass_unreviewed"))
        ]

    assert await told() == ["arborgate_glass_broken_total 0.0", "arborgate_glass_unreviewed 0.0"]
    proposal = await world.propose(world.scale("api"))
    await book.decide(world.vote(proposal, Verdict.BREAK_GLASS))
    await world.worker.advance(proposal.id)
    assert await told() == ["arborgate_glass_broken_total 1.0", "arborgate_glass_unreviewed 1.0"]
    otto = Requester.of(make_person("otto", "arborgate-auditors"))
    found = GlassReview(finding=Finding.JUSTIFIED, reviewer=otto, comment="I saw it.", at=world.clock())
    await book.review(proposal.id, found)
    assert await told() == ["arborgate_glass_broken_total 1.0", "arborgate_glass_unreviewed 0.0"]


async def test_an_ordinary_approval_is_not_counted(world: World) -> None:
    metrics = Metrics()
    book = ProposalBook(
        world.state, world.audit, world.settings.proposals, world.clock, count_broken=metrics.count_broken_glass
    )
    await book.decide(world.vote(await world.propose(world.scale("api"))))
    assert "arborgate_glass_broken_total 0.0" in metrics.render().decode()
