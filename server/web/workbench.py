"""The policies on the pages: what they say, who can do something, what somebody can do, and how one question is decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ...policies.context import UNTOLD
from ...policies.engine import Engine
from ...policies.errors import Denied, Invalid, NotThere, Refused
from ...policies.model import (
    COUNTED,
    INSTALLATION,
    Action,
    Attribute,
    Caller,
    Channel,
    Decision,
    Question,
    Resource,
    ResourceType,
)
from ...policies.nearness import Weighed, find_nearest, weigh
from ...policies.residue import Ways, what_can, who_can
from ...policies.statements import Statement
from ...policies.vocabulary import find_vocabulary
from ...policies.world import Person, person_key
from ...tools.risk import Risk
from ...tools.tree import Node
from ..gate import Recorder
from ..identity.roles import RoleMembers
from ..identity.settings import Grant
from ..replay import Archive, BrokenLog, find_past
from ..retelling import Retold, Wanted, retell
from .looking import require
from .review import Review

_MADE_UP = "made-up"
_KEYSPACE: tuple[tuple[str, Attribute], ...] = (("prefix", ""), ("source", ""))


def _listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Asked(BaseModel):
    """A question as a form sends it: who asks, through what, and what of what. `app` is a name or an id, `login_age` in
    seconds; the rest describes a made-up proposal for that app."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    action: Action = Action.APP_READ
    app: str = Field(default="", max_length=300)
    role: tuple[str, ...] = ()
    groups: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    agent: str = Field(default="", max_length=200)
    channel: Channel = Channel.MCP
    login_age: int = Field(default=0, ge=0)
    risk: Risk = Risk.LOW
    own: bool = False
    """Whether the made-up proposal is the asker's own."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """The policies of one file, in order."""

    file: str
    statements: Sequence[Statement]


@dataclass(frozen=True, slots=True)
class InForce:
    """The set that decides now."""

    digest: str
    chapters: Sequence[Chapter]
    count: int


@dataclass(frozen=True, slots=True)
class Holders:
    """Who has a role: groups everywhere, and groups at one app and below it."""

    role: str
    everywhere: Sequence[str]
    at: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class WhoCan:
    """Every way to be allowed, and who holds the roles that the ways ask for."""

    resource: Resource
    ways: Ways
    holders: Mapping[str, Holders]


@dataclass(frozen=True, slots=True)
class Reach:
    """What somebody may do with each type of resource, and on how many of the visible apps where it is asked of apps."""

    ways: Ways
    apps: int | None = None
    of: int = 0


@dataclass(frozen=True, slots=True)
class Why:
    """How a question is decided, and for a denial what came nearest to permitting it."""

    question: Question
    decision: Decision
    decided_by: Sequence[Statement]
    nearest: Sequence[Weighed] = field(default=())


@dataclass(frozen=True, slots=True)
class Past:
    """A decision on record, decided again, and why; None where that can't be told."""

    retold: Retold
    why: Why | None


@dataclass(frozen=True, slots=True)
class Workbench:
    """Answers about the policies in force, to those who may read them. Every look is on record."""

    engine: Callable[[], Engine]
    review: Review
    audit: Recorder
    roles: RoleMembers
    clock: Callable[[], float]
    logs: Path

    async def enter(self, caller: Caller, action: Action = Action.POLICY_READ) -> Engine:
        """The engine to look into. Raises `Denied`."""
        engine = self.engine()
        refusal = Denied("You may not read the policies.", hint="Approvers and auditors may, as policies have it.")
        await require(engine, self.audit, caller, action, self.clock(), refusal)
        return engine

    def show(self, engine: Engine) -> InForce:
        """All policies of the set."""
        statements = list(engine.loaded.statements.values())
        chapters = [
            Chapter(file, list(group)) for file, group in groupby(statements, lambda one: one.location.file.name)
        ]
        return InForce(engine.digest, chapters, len(statements))

    def who(self, engine: Engine, caller: Caller, asked: Asked) -> WhoCan:
        """Everybody who may do it. Raises `Invalid`."""
        resource = self._find_resource(engine, caller, asked)
        with _telling():
            ways = who_can(engine.loaded, asked.action, resource)
        named = dict.fromkeys(role for way in ways.ways for role in way.roles)
        return WhoCan(resource, ways, {role: self._holders(role) for role in named})

    def what(self, engine: Engine, caller: Caller, asked: Asked) -> list[Reach]:
        """Everything that somebody may do, group by group."""
        somebody = self._imagine(asked)
        nodes = self._visible(engine, caller)
        found: list[Reach] = []
        with _telling():
            ways = what_can(engine.loaded, somebody, engine.surroundings, login_age=asked.login_age)
        for one in sorted(ways, key=lambda one: (one.action.group, one.action, one.type)):
            apps = None
            if one.type is ResourceType.APP and one.action not in COUNTED:
                apps = sum(engine.visible(somebody, one.action, [node.resource for node in nodes]))
            found.append(Reach(one, apps, len(nodes)))
        return found

    def why(self, engine: Engine, caller: Caller, asked: Asked) -> Why:
        """How the question is decided now. Raises `Invalid`."""
        resource = self._find_resource(engine, caller, asked)
        counted = tuple((name, 0) for name in COUNTED.get(asked.action, ()) if name not in UNTOLD)
        question = Question(self._imagine(asked), asked.action, (resource,), (counted,), self.clock())
        return self.weigh(engine, question)

    async def past(self, caller: Caller, ref: str) -> Past:
        """A decision on record, decided again: `ref` is `replica:number` or a trace id. Needs the record of everybody to be
        open to the caller too. Raises `Denied`, and `NotThere` for what is not in the logs that this replica can read."""
        engine = await self.enter(caller)
        await self.enter(caller, Action.RECORD_SEARCH_ALL)
        wanted, archive = Wanted(ref), Archive()
        try:
            past = await asyncio.to_thread(
                find_past, sorted(self.logs.glob("*.jsonl")), archive, wanted.fits, wanted.mark()
            )
        except BrokenLog as error:
            raise Refused(
                "The log is damaged.", hint="`arborgate record verify` names the line.", detail=str(error)
            ) from error
        if past is None:
            raise NotThere("No decision like that is in the logs of this replica.", field="ref")
        retold = retell(past, archive, engine.loaded, engine.surroundings, self.clock())
        why = self.weigh(retold.engine, retold.question) if retold.engine and retold.question else None
        return Past(retold, why)

    def weigh(self, engine: Engine, question: Question) -> Why:
        """How a whole question is decided, and what came nearest."""
        decision = engine.answer(question)
        decided = [engine.loaded.statements[name] for name in decision.policies if name in engine.loaded.statements]
        if decision.allowed or decision.policies or decision.error:
            return Why(question, decision, decided)
        return Why(question, decision, decided, find_nearest(weigh(engine, question)))

    def _find_resource(self, engine: Engine, caller: Caller, asked: Asked) -> Resource:
        """What is asked of: the app, something made up that is the app's, or the installation."""
        kinds = find_vocabulary(engine.loaded.schema).types_of(asked.action)
        if not asked.app:
            if ResourceType.INSTALLATION in kinds:
                return INSTALLATION
            raise Invalid(f"{asked.action} is asked of something of one app.", field="app", hint="Name an app.")
        app = self._find_app(caller, asked.app).resource
        for kind, made in (
            (ResourceType.APP, app),
            (ResourceType.PROPOSAL, Resource(ResourceType.PROPOSAL, _MADE_UP, (app,), _proposal(asked))),
            (ResourceType.KEYSPACE, Resource(ResourceType.KEYSPACE, _MADE_UP, (app,), _KEYSPACE)),
        ):
            if kind in kinds:
                return made
        raise Invalid(f"{asked.action} is asked of the whole installation.", field="app", hint="Leave the app empty.")

    def _visible(self, engine: Engine, caller: Caller) -> list[Node]:
        nodes = self.review.tree.nodes()
        answers = engine.visible(caller, Action.APP_READ, [node.resource for node in nodes])
        return [node for node, seen in zip(nodes, answers, strict=True) if seen]

    def _find_app(self, caller: Caller, text: str) -> Node:
        found = self.review.named(caller, text)
        if len(found) != 1:
            problem = f"{len(found)} apps are called that." if found else "There is no such app that you may see."
            raise Invalid(problem, field="app", hint="Write it as cluster/namespace/name.")
        return found[0]

    def _imagine(self, asked: Asked) -> Caller:
        person = Person(
            roles=frozenset(asked.role),
            groups=frozenset(asked.groups),
            agent=asked.agent,
            channel=asked.channel,
            login_age=asked.login_age,
        )
        return person.caller("somebody", int(self.clock()))

    def _holders(self, role: str) -> Holders:
        members = self.roles.get(role, ())
        return Holders(
            role,
            everywhere=[one for one in members if isinstance(one, str)],
            at=[(one.group, one.at) for one in members if isinstance(one, Grant)],
        )


@contextmanager
def _telling() -> Iterator[None]:
    """A policy that fails when it is evaluated by halves (an overflow, say) leaves the question open."""
    try:
        yield
    except ValueError as error:
        raise Refused("This can't be told: a policy fails on it.", hint=str(error)) from error


def read_asked(fields: Mapping[str, object]) -> Asked:
    """The question in a query string; raises `Invalid` naming the field."""
    try:
        return Asked.model_validate({name: value for name, value in fields.items() if value not in ("", [])})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Invalid(f"{first['msg']}.", field=".".join(str(part) for part in first["loc"])) from error


def _proposal(asked: Asked) -> tuple[tuple[str, Attribute], ...]:
    requester = person_key("somebody" if asked.own else "somebody-else")
    return (("breaker", ""), ("factors", ()), ("requester", requester), ("risk", str(asked.risk)))
