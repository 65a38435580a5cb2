"""Readiness: what `/readyz` and the metrics say of the policies."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from arborgate.policies.loader import Policies
from arborgate.server.metrics import Metrics
from arborgate.server.proposals import ProposalBook
from arborgate.server.readiness import Readiness
from arborgate.tools.argocd.source import ArgoCD
from tests.policies.writing import copy_shipped

pytestmark = pytest.mark.anyio


class Nothing:
    """No clusters, and no proposals."""

    def statuses(self) -> Sequence[object]:
        return ()

    async def unreviewed(self) -> Sequence[object]:
        return ()

    async def stuck(self) -> Sequence[object]:
        return ()


async def test_a_newer_set_that_was_refused_is_told_with_the_reason(tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    policies, metrics = Policies(folder), Metrics()
    readiness = Readiness(cast("ArgoCD", Nothing()), cast("ProposalBook", Nothing()), policies, metrics)
    in_force = policies.current.digest
    good = (folder / "readers.cedar").read_text()

    (folder / "readers.cedar").write_text("permit")
    await policies.reload()
    ready, told = await readiness.check()

    assert (ready, told["policies"]) == (True, in_force)
    assert told["policies_refused"].startswith("readers.cedar:1:")
    assert b'arborgate_source_ready{source="policies"} 0.0' in metrics.render()

    (folder / "readers.cedar").write_text(good)
    await policies.reload()

    assert (await readiness.check())[1]["policies_refused"] == ""
    assert b'arborgate_source_ready{source="policies"} 1.0' in metrics.render()


async def test_what_waits_for_a_person_is_counted(tmp_path: Path) -> None:
    class Trouble(Nothing):
        """One with broken glass that nobody has reviewed, and two that are stuck."""

        async def unreviewed(self) -> Sequence[object]:
            return (object(),)

        async def stuck(self) -> Sequence[object]:
            return (object(), object())

    policies, metrics = Policies(copy_shipped(tmp_path / "set")), Metrics()
    await Readiness(cast("ArgoCD", Nothing()), cast("ProposalBook", Trouble()), policies, metrics).check()
    assert b"arborgate_glass_unreviewed 1.0" in metrics.render()
    assert b"arborgate_proposals_stuck 2.0" in metrics.render()
