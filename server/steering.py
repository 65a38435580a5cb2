"""Steering: a person pauses, resumes or aborts what the applier is doing, or releases what it left, each on record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from ..policies.errors import ArborgateError, Conflict, Invalid
from ..policies.model import Action, Caller
from ..tools.proposal import Hold, Order, Proposal, ProposalState, Release, Requester
from ..tools.record import Entry, Event, name_caller
from .holds import Holds
from .state import State

if TYPE_CHECKING:
    from .gate import Recorder

STEERED = (ProposalState.APPROVED, ProposalState.APPLYING)
"""The states in which there is something to steer."""

_ATTEMPTS = 5


class Command(StrEnum):
    """What a person can say to the applier."""

    ABORT = "abort"
    PAUSE = "pause"
    RELEASE = "release"
    RESUME = "resume"


_EVENTS: Mapping[Command, Event] = {
    Command.ABORT: Event.PROPOSAL_ABORTED,
    Command.PAUSE: Event.PROPOSAL_PAUSED,
    Command.RELEASE: Event.PROPOSAL_RELEASED,
    Command.RESUME: Event.PROPOSAL_RESUMED,
}
_ORDERS: Mapping[Command, Order | None] = {
    Command.ABORT: Order.ABORT,
    Command.PAUSE: Order.PAUSE,
    Command.RESUME: None,
}


class Steered(Protocol):
    """The proposals, as far as they are steered."""

    async def get(self, proposal_id: str) -> Proposal: ...

    async def release(self, proposal_id: str, release: Release) -> Proposal: ...


class Steering:
    """The orders to the applier. Each is recorded as intended before it is given, and with its outcome after."""

    def __init__(
        self,
        state: State,
        book: Steered,
        audit: Recorder,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._holds = Holds(state)
        self._book = book
        self._audit = audit
        self._clock = clock

    async def standing(self, proposal: Proposal) -> Hold | None:
        """The order that stands for the proposal, where there still is something to steer."""
        return await self._holds.read(proposal.id) if proposal.state in STEERED else None

    async def steer(self, proposal_id: str, command: Command, caller: Caller, comment: str = "") -> Proposal:
        """Gives the order; returns the proposal that it is about.

        Raises `Conflict` when there is nothing to steer (any more), for what is so already, and for whatever would take
        an abort back; `Invalid` for an abort or a release without a comment, `NotThere`, `Unavailable` or `Unrecorded`."""
        # Once begun, an order is finished even when its giver goes away: its outcome belongs on the record.
        return await asyncio.shield(self._steer(proposal_id, command, caller, comment.strip()))

    async def _steer(self, proposal_id: str, command: Command, caller: Caller, comment: str) -> Proposal:
        if command is Command.ABORT and not comment:
            raise Invalid("Say why it is aborted.", field="comment")
        if command is Command.RELEASE:
            return await self._release(proposal_id, caller, comment)
        proposal = await self._book.get(proposal_id)
        entry = Entry(
            event=_EVENTS[command],
            **name_caller(caller),
            action=Action.PROPOSAL_STEER,
            resource=f"Proposal::{proposal.id}",
            arguments_digest=proposal.digest,
            detail=comment,
            proposal=proposal.id,
        )
        await self._audit.write(replace(entry, outcome="intended"))
        try:
            await self._give(proposal, command, caller, comment)
        except ArborgateError as error:
            await self._audit.write(replace(entry, outcome=error.reason, detail=error.detail or error.message))
            raise
        await self._audit.write(replace(entry, outcome="ok"))
        return proposal

    async def _release(self, proposal_id: str, caller: Caller, comment: str) -> Proposal:
        """No order: the applier is done with it. The book records it as it does every move."""
        if not comment:
            raise Invalid("Say what you found and did, so that others may change this again.", field="comment")
        release = Release(by=Requester.of(caller), comment=comment, at=round(self._clock(), 3))
        return await self._book.release(proposal_id, release)

    async def _give(self, proposal: Proposal, command: Command, caller: Caller, comment: str) -> None:
        """A race that was lost is judged again by what stands now."""
        for _ in range(_ATTEMPTS):
            standing, kept = await self._holds.read_kept(proposal.id)
            _check(proposal, standing, command)
            order, at = _ORDERS[command], round(self._clock(), 3)
            after = Hold(order=order, by=Requester.of(caller), comment=comment, at=at) if order else None
            done = await self._holds.swap(proposal.id, kept, after, by=caller.key, at=at, states=STEERED)
            if done is None:
                raise Conflict("It is over, so there is nothing to steer any more.")
            if done:
                return
        raise Conflict("Too many steer this at once.", hint="Look at how it stands, and try again.")


def _check(proposal: Proposal, standing: Hold | None, command: Command) -> None:
    """Raises `Conflict` when the command makes no sense now."""
    if proposal.state not in STEERED:
        raise Conflict("Only what is approved or being applied can be paused or aborted.")
    order = standing.order if standing else None
    if order is Order.ABORT:
        raise Conflict("It is being aborted, and that can't be taken back.")
    if order is _ORDERS[command]:
        raise Conflict("It is paused already." if order else "It is not paused.")
