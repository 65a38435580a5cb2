"""The applier's desk for parent apps: puts proposals before them, and counts what they sign as votes.

Both are done by every applier; a mark in the state and a consumer group see to it that each thing is done once. What
can't be done now (no Redis, no record, a tree that is out of date) waits; what is wrong is refused and recorded.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import rfc8785

from ..policies.engine import Engine
from ..policies.errors import ArborgateError, Refused, Unavailable, Unrecorded
from ..policies.model import Action
from ..tools.proposal import Proposal, ProposalQuery, ProposalState, digest_content
from ..tools.record import Entry, Event, name_caller, name_decision
from .groups import join_group
from .leases import read_script
from .parent_statements import ParentVerdict, Statement, check_times
from .parent_streams import APP, CONTENT, DIGEST, LENGTH, PROPOSAL, STATEMENT, asked_key, said_key
from .parents import Parents, make_approval, parent_caller
from .proposals import ProposalBook
from .state import State, reaching_state

if TYPE_CHECKING:
    from .gate import Recorder

GROUP = "appliers"

_TAKEN = 16
_IDLE_MS = 3_000
_ROUND = 0.3
_KEPT = 7 * 86_400
_HEARD = "heard"

log = logging.getLogger(__name__)


class ParentDesk:
    """Works for the parent apps of the settings. `engine` gives the policies in force."""

    def __init__(
        self,
        *,
        state: State,
        book: ProposalBook,
        parents: Parents,
        engine: Callable[[], Engine],
        audit: Recorder,
        clock: Callable[[], float],
        clean: Callable[[str], str] = str,
    ) -> None:
        self._state = state
        self._book = book
        self._parents = parents
        self._engine = engine
        self._audit = audit
        self._clock = clock
        self._clean = clean
        self._ask = state.redis.register_script(read_script("ask"))
        self._consumer = secrets.token_hex(8)
        self._joined: set[str] = set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_again(self._follow, "asking parent apps"))
            group.create_task(_again(self._listen, "hearing parent apps"))

    async def ask_all(self) -> None:
        """Puts every proposal that waits for approval before the parent apps that have not had it."""
        before = ""
        while True:
            page = await self._book.list(ProposalQuery(states=(ProposalState.PROPOSED,), before=before, limit=50))
            for proposal in page.proposals:
                await self.ask(proposal)
            if not (before := page.next):
                return

    async def ask(self, proposal: Proposal) -> None:
        """Puts one proposal before the parent apps that all its targets lie below, each once."""
        if proposal.state is not ProposalState.PROPOSED:
            return
        try:
            apps = self._parents.asked(proposal.content)
        except Refused:
            return  # of a target that is gone nobody is asked
        content = rfc8785.dumps(proposal.content.model_dump(mode="json")).decode()
        for app in apps:
            mark = self._state.key("parent", app, "had", proposal.id)
            with reaching_state():
                if await self._state.redis.exists(mark):
                    continue
            entry = self._enter(Event.PARENT_ASKED, app, proposal.id, proposal.digest)
            await self._audit.write(replace(entry, outcome="ok"))
            told = {APP: app, PROPOSAL: proposal.id, DIGEST: proposal.digest, CONTENT: content}
            fields = [part for pair in told.items() for part in pair]
            keep = int(max(proposal.content.expires_at - self._clock(), 0)) + _KEPT
            await self._state.run(self._ask, [mark, asked_key(self._state, app)], [keep, LENGTH, *fields])

    async def hear(self, app: str, entry: str, text: str) -> None:
        """Counts what a parent app has said, or records why not. `entry` is the id of the stream's entry."""
        try:
            statement = self._parents.read(text, app)
            proposal = await self._book.get(statement.proposal)
            if not await self._use(app, statement, entry) or any(one.statement == text for one in proposal.approvals):
                return  # it was heard already: whoever did so did not come to say it to the stream
            self._parents.check_scope(statement, proposal.content, digest_content(proposal.content))
            check_times(statement, self._clock())
            await self._count(statement, text, proposal)
            with reaching_state():
                await self._state.redis.set(self._mark(app, statement), f"{entry} {_HEARD}", keepttl=True)
        except (Unavailable, Unrecorded):
            raise
        except ArborgateError as error:
            log.warning("a statement of the parent app %s is refused: %s %s", app, error.message, error.detail)
            refused = self._enter(Event.PARENT_REFUSED, app, "", "")
            detail = " ".join(filter(None, (error.message, error.detail)))
            await self._audit.write(replace(refused, outcome=str(error.reason), detail=self._clean(detail)))

    async def _count(self, statement: Statement, text: str, proposal: Proposal) -> None:
        answered = self._enter(Event.PARENT_ANSWERED, statement.app, proposal.id, proposal.digest)
        reason = self._clean(f"{statement.verdict}: {statement.reason}")
        if statement.verdict is ParentVerdict.PASS:
            await self._audit.write(replace(answered, outcome="ok", detail=reason))
            return
        approval = make_approval(statement, text, self._clean)
        engine = self._engine()
        apps = self._parents.resources(proposal.content)
        question = self._parents.ask(approval, proposal, apps, await self._book.counts(proposal), self._clock())
        decision = engine.answer(question)
        told = name_decision(decision, question, engine.digest, reason)
        outcome = "ok" if decision.allowed else "denied"
        await self._audit.write(replace(answered, **told, action=question.action, outcome=outcome))
        if decision.allowed:
            await self._book.decide(approval, alone=self._parents.alone((approval,)))
        else:
            log.info(
                "%s can't decide on %s: %s", statement.app, proposal.id, ", ".join(decision.policies) or "no policy"
            )

    async def _use(self, app: str, statement: Statement, entry: str) -> bool:
        """Whether it has still to be heard. One statement is one entry of the stream, which may come again after a crash; a
        copy of it is a replay."""
        mark = self._mark(app, statement)
        with reaching_state():
            await self._state.redis.set(mark, entry, nx=True, ex=_KEPT)
            known = cast("str | None", await self._state.redis.get(mark)) or ""
        if known.partition(" ")[0] != entry:
            raise Refused("The statement has been used already.", detail=f"jti {statement.jti}")
        return not known.endswith(_HEARD)

    def _mark(self, app: str, statement: Statement) -> str:
        return self._state.key("parent", app, "used", statement.jti)

    def _enter(self, event: Event, app: str, proposal: str, digest: str) -> Entry:
        return Entry(
            event=event,
            **name_caller(parent_caller(app)),
            action=Action.PROPOSAL_APPROVE_WITHIN if event is Event.PARENT_ANSWERED else "",
            resource=f"Proposal::{proposal}" if proposal else f"App::{app}",
            arguments_digest=digest,
            proposal=proposal,
        )

    async def _follow(self) -> None:
        position = await self._book.store.last_event()
        await self.ask_all()
        async for event in self._book.events(position):
            if event.state is ProposalState.PROPOSED:
                await self.ask(await self._book.get(event.proposal))

    async def _listen(self) -> None:
        while True:
            apps = {said_key(self._state, app): app for app, _ in self._parents.listed()}
            if not apps:
                await asyncio.sleep(_ROUND)
                continue
            await self._join(apps)
            for stream, entry, fields in await self._take(apps):
                await self._hear_entry(stream, apps[stream], entry, fields)

    async def _hear_entry(self, stream: str, app: str, entry: str, fields: Mapping[str, str]) -> None:
        try:
            await self.hear(app, entry, fields.get(STATEMENT, ""))
        except Unavailable as error:
            log.info("a statement of %s waits: %s %s", app, error.message, error.detail)
            return
        with reaching_state():
            await self._state.redis.xack(stream, GROUP, entry)

    async def _join(self, streams: Mapping[str, str]) -> None:
        for stream in streams.keys() - self._joined:
            await join_group(self._state, stream, GROUP, start="0")
            self._joined.add(stream)

    async def _take(self, streams: Mapping[str, str]) -> Sequence[tuple[str, str, Mapping[str, str]]]:
        """What nobody has taken yet, and what was taken and not finished; waits a little where there is nothing."""
        found: list[tuple[str, str, Mapping[str, str]]] = []
        try:
            for stream, app in streams.items():
                try:
                    found += [(stream, entry, fields) for entry, fields in await self._take_from(stream)]
                except UnicodeDecodeError:  # one parent app's nonsense must not keep the others waiting
                    log.warning("what is in the stream of the parent app %s can't be read", app)
        except Unavailable:
            self._joined.clear()  # another server may not know the groups
            raise
        if not found:
            await asyncio.sleep(_ROUND)
        return found

    async def _take_from(self, stream: str) -> Sequence[tuple[str, Mapping[str, str]]]:
        redis = self._state.redis
        with reaching_state():
            claimed = await redis.xautoclaim(stream, GROUP, self._consumer, _IDLE_MS, "0-0", count=_TAKEN)
            fresh = await redis.xreadgroup(GROUP, self._consumer, {stream: ">"}, count=_TAKEN)
        entries = [(entry, fields or {}) for entry, fields in claimed[1] if entry]
        for _, more in cast("list[tuple[str, list[tuple[str, dict[str, str]]]]]", fresh or []):
            entries += more
        return entries


async def _again(work: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
    """Begins again after what passes by itself, or nobody foresaw."""
    while True:
        try:
            await work()
        except (Unavailable, Unrecorded) as error:
            log.warning("%s waits: %s %s", what, error.message, error.detail)
        except ArborgateError as error:
            log.warning("%s goes on: %s %s", what, error.message, error.detail)
        except Exception:
            log.exception("%s goes on after something unforeseen", what)
        await asyncio.sleep(_ROUND)
