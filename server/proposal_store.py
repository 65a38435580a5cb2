"""How proposals lie in Redis: one hash each, an index by id, the times they expire, and a stream of what happened."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import TypeAdapter, ValidationError

from ..policies.errors import Conflict, NotThere, Refused
from ..tools.cuts import shorten
from ..tools.proposal import (
    Approval,
    Content,
    GlassReview,
    Proposal,
    ProposalPage,
    ProposalQuery,
    ProposalState,
    Release,
    Step,
)
from ..tools.text import quote_name
from .counts import DAY, Begun, Counts
from .leases import Lease, LostLease, read_script
from .state import State, reaching_state

EXPIRING = frozenset({ProposalState.DRAFTED, ProposalState.PROPOSED, ProposalState.APPROVED})
"""The states that end by themselves when their time is up."""

_EVENTS_KEPT = 10_000
_LEDGER_KEPT = 30 * DAY
"""How long a ledger remembers: an approval is judged again as of when it was given, and the day before."""
_CHUNK = 50
_SCANNED = 1_000
"""How many proposals one page looks at, at most: a rare filter goes on from `next`."""
_BLOCK_MS = 300
"""How long one blocking read waits: well under any socket timeout."""

_approvals = TypeAdapter(tuple[Approval, ...])
_steps = TypeAdapter(tuple[Step, ...])


@dataclass(frozen=True, slots=True)
class Kept:
    """A proposal as it was read, with what a swap compares."""

    proposal: Proposal
    fields: Mapping[str, str]


class Outpaced(Conflict):
    """Another proposal of the same app was begun since its changes were counted: count again."""


class Ordered(Conflict):
    """An order came at the very last moment: heed it before this is called applied."""


@dataclass(frozen=True, slots=True)
class ProposalEvent:
    """One thing that happened to a proposal. `position` orders events; `at` is seconds since the epoch, `by` a key."""

    position: str
    proposal: str
    state: ProposalState
    at: float
    by: str


class ProposalStore:
    """Reads proposals, and swaps one version of a proposal for the next."""

    def __init__(self, state: State) -> None:
        self._redis = state.redis
        self._state = state
        self._transition = state.redis.register_script(read_script("transition"))
        self._events = state.key("events")
        self._all = state.key("proposals")
        self._expiring = state.key("expiring")
        self._glass = state.key("glass")
        self._stuck = state.key("stuck")
        self._known = state.key("known")
        self.work = state.key("work")
        self.happened = self._events

    async def read(self, proposal_id: str) -> Kept:
        """Raises `NotThere`, `Unavailable`, and `Refused` for what no Arborgate wrote."""
        with reaching_state():
            fields = cast("dict[str, str]", await self._redis.hgetall(self._state.key("proposal", proposal_id)))
        if not fields:
            raise NotThere(f"There is no proposal {quote_name(shorten(proposal_id, 40))}.", field="proposal")
        return _parse(fields)

    async def swap(
        self,
        before: Kept | None,
        after: Proposal,
        *,
        by: str,
        lease: Lease | None = None,
        wake: bool = False,
        counts: Counts | None = None,
    ) -> bool:
        """Puts `after` in place of `before`; False when that is no longer what is there, and then nothing changes.

        `wake` hands the proposal to the applier. With `counts` its changes are entered as begun, into the ledgers of
        their apps. Raises `LostLease` when `lease` is no longer held, `Outpaced` when `counts` are no longer right, and
        `Ordered` when it is to be applied while an order stands."""
        fields = _dump(after)
        old = before.fields if before else {}
        changed = [part for name, value in fields.items() if old.get(name) != value for part in (name, value)]
        apps = Counter(change.target.app for change in after.content.changes) if counts else {}
        keys = [self._state.key("proposal", after.id), self._events, self.work, self._all, self._expiring]
        keys += [self._glass, self._known, self._state.key("hold", after.id), self._stuck]
        keys += [*(lease.keys if lease else ()), *map(self._ledger, apps)]
        arguments = [after.id, old.get("version", ""), old.get("state", ""), secrets.token_hex(8)]
        arguments += [lease.fence if lease else "", after.state, str(after.state_at), by]
        arguments += [str(after.ends_at) if after.state in EXPIRING else "", "1" if wake else "", str(_EVENTS_KEPT)]
        arguments += [str(after.glass.at) if after.glass and after.unreviewed else ""]
        arguments += [after.content.requester.key if after.state is ProposalState.APPLIED else ""]
        arguments += [str(len(lease.keys) if lease else 0), str(after.state_at - _LEDGER_KEPT)]
        arguments += [str(after.state_at) if after.stuck else ""]
        for app, changes in apps.items():
            arguments += [str(changes), counts.newest(app) if counts else ""]
        arguments += ["state", after.state, *changed]
        match await self._state.run(self._transition, keys, arguments):
            case -1:
                raise LostLease("Another applier has taken this proposal over.")
            case -2:
                raise Outpaced("Another change of the same app was begun.")
            case -3:
                raise Ordered("Somebody has told the applier to wait or to stop.")
            case answer:
                return bool(answer)

    async def counts(self, apps: Iterable[str]) -> Counts:
        """What was begun of these apps, and which broken glass is unreviewed; raises `Unavailable`."""
        names = list(dict.fromkeys(apps))
        with reaching_state():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrange(self._glass, 0, -1)
                for name in names:
                    pipe.zrange(self._ledger(name), 0, -1, withscores=True)
                ids, *ledgers = cast("tuple[list[str], *tuple[list[Begun], ...]]", await pipe.execute())
        begun = {name: [(each, when) for each, when in ledger] for name, ledger in zip(names, ledgers, strict=True)}
        return Counts(begun, tuple(one for one in await self._list(ids) if one.unreviewed))

    async def unreviewed(self) -> Sequence[Proposal]:
        """The proposals with broken glass that nobody has reviewed, the longest waiting first."""
        return (await self.counts(())).unreviewed

    async def stuck(self) -> Sequence[Proposal]:
        """The proposals that keep their targets until a person releases them, the longest waiting first."""
        with reaching_state():
            ids = cast("list[str]", await self._redis.zrange(self._stuck, 0, -1))
        return [one for one in await self._list(ids) if one.stuck]

    async def has_applied(self, requester: str) -> bool:
        """Whether any proposal of that person was ever applied."""
        with reaching_state():
            return bool(await self._redis.sismember(self._known, requester))

    async def page(self, query: ProposalQuery) -> ProposalPage:
        """Newest first."""
        found: list[Proposal] = []
        last, scanned = query.before, 0
        while scanned < _SCANNED:
            ids = await self._ids(last)
            for proposal_id, fields in zip(ids, await self._fields(ids), strict=True):
                scanned, last = scanned + 1, proposal_id
                if _matches(query, fields) and (proposal := _parse_or_skip(fields)) and _asks(query, proposal):
                    found.append(proposal)
                    if len(found) == query.limit:
                        return ProposalPage(found, last)
            if len(ids) < _CHUNK:
                return ProposalPage(found, "")
        return ProposalPage(found, last)

    async def due(self, now: float) -> Sequence[str]:
        """The ids of those whose time is up, a few at a time."""
        with reaching_state():
            ids = await self._redis.zrangebyscore(self._expiring, "-inf", now, start=0, num=_CHUNK)
        return cast("list[str]", ids)

    async def forget_expiry(self, proposal_id: str) -> None:
        """Takes an id off the expiry times that names no proposal that could expire."""
        with reaching_state():
            await self._redis.zrem(self._expiring, proposal_id)

    async def waiting(self) -> Sequence[Proposal]:
        """All that still end by themselves when their time is up, the soonest first."""
        with reaching_state():
            ids = cast("list[str]", await self._redis.zrange(self._expiring, 0, -1))
        return await self._list(ids)

    async def last_event(self) -> str:
        """The position of the newest event."""
        with reaching_state():
            newest = cast("list[tuple[str, object]]", await self._redis.xrevrange(self._events, count=1))
        return newest[0][0] if newest else "0-0"

    async def states(self, proposal_id: str) -> tuple[float, set[ProposalState]]:
        """Since when events are kept (seconds since the epoch), and the states that the proposal came to since then."""
        with reaching_state():
            events = cast("list[tuple[str, dict[str, str]]]", await self._redis.xrange(self._events))
        since = int(events[0][0].partition("-")[0]) / 1000 if events else 0.0
        return since, {ProposalState(each["state"]) for _, each in events if each["proposal"] == proposal_id}

    async def events(self, after: str) -> AsyncIterator[ProposalEvent | None]:
        """The events behind a position as they come, and None each time that none came for a while."""
        position = after
        while True:
            with reaching_state():
                answer = await self._redis.xread({self._events: position}, count=_CHUNK, block=_BLOCK_MS)
            streams = cast("list[tuple[str, list[tuple[str, dict[str, str]]]]]", answer or [])
            for event in (parse_event(*entry) for _, entries in streams for entry in entries):
                position = event.position
                yield event
            if not streams:
                yield None

    async def _list(self, ids: Sequence[str]) -> Sequence[Proposal]:
        found = [_parse_or_skip(fields) for fields in await self._fields(ids)] if ids else []
        return [one for one in found if one is not None]

    def _ledger(self, app: str) -> str:
        return self._state.key("ledger", app)

    async def _ids(self, before: str) -> list[str]:
        with reaching_state():
            ids = await self._redis.zrevrangebylex(self._all, f"({before}" if before else "+", "-", start=0, num=_CHUNK)
        return cast("list[str]", ids)

    async def _fields(self, ids: Sequence[str]) -> list[dict[str, str]]:
        with reaching_state():
            async with self._redis.pipeline(transaction=False) as pipe:
                for proposal_id in ids:
                    pipe.hgetall(self._state.key("proposal", proposal_id))
                return cast("list[dict[str, str]]", await pipe.execute())


def parse_event(position: str, fields: Mapping[str, str]) -> ProposalEvent:
    """One entry of the stream `happened`; raises `Refused` for one that no Arborgate of this version wrote."""
    try:
        state = ProposalState(fields["state"])
        return ProposalEvent(position, fields["proposal"], state, float(fields["at"]), fields["by"])
    except (KeyError, ValueError) as error:
        raise Refused("An event of a proposal can't be read: something else than this Arborgate wrote it.") from error


def _dump(proposal: Proposal) -> dict[str, str]:
    return {
        "content": proposal.content.model_dump_json(),
        "digest": proposal.digest,
        "state_at": str(proposal.state_at),
        "state_note": proposal.state_note,
        "approvals": _approvals.dump_json(proposal.approvals).decode(),
        "steps": _steps.dump_json(proposal.steps).decode(),
        "review": proposal.review.model_dump_json() if proposal.review else "",
        "release": proposal.release.model_dump_json() if proposal.release else "",
    }


def _parse(fields: Mapping[str, str]) -> Kept:
    try:
        proposal = Proposal(
            content=Content.model_validate_json(fields["content"]),
            digest=fields["digest"],
            state=ProposalState(fields["state"]),
            state_at=float(fields["state_at"]),
            state_note=fields["state_note"],
            approvals=_approvals.validate_json(fields["approvals"]),
            steps=_steps.validate_json(fields["steps"]),
            review=GlassReview.model_validate_json(review) if (review := fields.get("review")) else None,
            release=Release.model_validate_json(release) if (release := fields.get("release")) else None,
        )
    except (KeyError, ValueError, ValidationError) as error:
        raise Refused("This proposal can't be read: something else than Arborgate has changed it.") from error
    return Kept(proposal, fields)


def _parse_or_skip(fields: Mapping[str, str]) -> Proposal | None:
    """In a list, one that can't be read must not hide the others."""
    try:
        return _parse(fields).proposal
    except Refused:
        return None


def _matches(query: ProposalQuery, fields: Mapping[str, str]) -> bool:
    """Whether it is worth parsing."""
    return bool(fields) and (not query.states or fields.get("state") in query.states)


def _asks(query: ProposalQuery, proposal: Proposal) -> bool:
    content = proposal.content
    return (not query.requester or query.requester == content.requester.key) and (
        not query.app or any(change.target.app == query.app for change in content.changes)
    )
