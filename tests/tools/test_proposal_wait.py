"""The tool `proposal_wait`: what it waits for, when it ends, and what it says meanwhile."""

from pathlib import Path

import pytest

from arborgate.policies.errors import Reason
from arborgate.tools.proposal import Proposal, ProposalState, Step, StepState
from arborgate.tools.proposals.waiting import LONGEST, Awaited
from tests.tools.test_proposal_tools import make_proposal, make_world
from tests.tools.world import ADA

pytestmark = pytest.mark.anyio

S = ProposalState


def version(state: ProposalState, *steps: StepState) -> Proposal:
    return make_proposal(1, "api", "web", state=state, steps=tuple(Step(state=one) for one in steps))


WAY = (
    version(S.PROPOSED),
    version(S.APPROVED),
    version(S.APPLYING, StepState.PENDING, StepState.PENDING),
    version(S.APPLYING, StepState.HEALTHY, StepState.STARTED),
    version(S.APPLIED, StepState.HEALTHY, StepState.HEALTHY),
)


@pytest.mark.parametrize(
    ("until", "ends"), [(Awaited.CHANGE, S.APPROVED), (Awaited.DECIDED, S.APPROVED), (Awaited.APPLIED, S.APPLIED)]
)
async def test_it_ends_with_what_was_waited_for(tmp_path: Path, until: Awaited, ends: ProposalState) -> None:
    world = make_world(tmp_path, WAY[0])
    world.proposals.later[:] = WAY[1:]
    told = await world.ask("proposal_wait", proposal="p1", until=until)
    assert (told["reached"], told["state"]) == (True, ends)


async def test_it_ends_with_the_time(tmp_path: Path) -> None:
    world = make_world(tmp_path, WAY[0])
    answer = await world.call("proposal_wait", proposal="p1", until="applied", timeout=1)
    assert answer.structured is not None
    assert (answer.structured["reached"], answer.structured["state"]) == (False, "proposed")
    assert "has not come yet: call again." in answer.text
    assert "No tool approves." in answer.text


@pytest.mark.parametrize("until", list(Awaited))
@pytest.mark.parametrize("state", [state for state in S if state.final])
async def test_nobody_waits_for_what_is_over(tmp_path: Path, until: Awaited, state: ProposalState) -> None:
    world = make_world(tmp_path, version(state))
    world.proposals.later[:] = [WAY[0]]
    told = await world.ask("proposal_wait", proposal="p1", until=until)
    assert (told["reached"], told["state"]) == (True, state)
    assert world.proposals.later == [WAY[0]]


async def test_nor_for_what_is_stuck(tmp_path: Path) -> None:
    stuck = version(S.FAILED, StepState.STUCK, StepState.UNDONE)
    told = await make_world(tmp_path, stuck).ask("proposal_wait", proposal="p1", until="applied")
    assert (told["reached"], told["state"], told["steps"]) == (True, "failed", "1 undone, 1 stuck")


async def test_it_says_how_far_it_has_come_in_our_own_words(tmp_path: Path) -> None:
    world = make_world(tmp_path, WAY[0])
    world.proposals.later[:] = WAY[1:]
    said: list[str] = []

    async def report(words: str) -> None:
        said.append(words)

    await world._gate.call(ADA, "proposal_wait", {"proposal": "p1", "until": "applied"}, report=report)
    assert said == ["approved", "applying: 2 pending", "applying: 1 started, 1 healthy", "applied: 2 healthy"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"timeout": LONGEST + 1}, "timeout"), ({"timeout": 0}, "timeout"), ({"until": "soon"}, "until")],
)
async def test_what_is_asked_wrongly_is_told(tmp_path: Path, wrong: dict[str, object], field: str) -> None:
    error = (await make_world(tmp_path, WAY[0]).call("proposal_wait", proposal="p1", **wrong)).error
    assert error is not None
    assert (error.reason, error.field) == (Reason.INVALID, field)


async def test_a_hidden_proposal_is_like_none(tmp_path: Path) -> None:
    world = make_world(tmp_path, make_proposal(1, "vault"))
    hidden = (await world.call("proposal_wait", proposal="p1")).error
    missing = (await world.call("proposal_wait", proposal="p2")).error
    assert hidden is not None
    assert missing is not None
    assert (hidden.reason, hidden.message.replace("p1", "p2")) == (missing.reason, missing.message)
