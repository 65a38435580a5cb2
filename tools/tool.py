"""What a tool is, what it is given, and the base types of what it takes and returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ..policies.calendar import Calendar
from ..policies.errors import Unavailable
from ..policies.model import Action, AgentTrust, Attribute, Caller, Decision, Resource
from .budget import ANSWER, Budget, Page
from .environments import Environments
from .promotion.ladder import PromotionSettings
from .proposal import Proposals
from .record import Records
from .tree import AppTree


class Params(BaseModel):
    """The base of a tool's parameters: closed (an unknown field is an error that names it) and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=4096)


class Result(BaseModel):
    """The base of a tool's result. `cut` says what was left out to keep the answer small, and how to ask for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cut: str | None = None


class Mark(StrEnum):
    """What is special about the text of a field, said in its type."""

    IDENTITY = "identity"
    UNTRUSTED = "untrusted"


Untrusted = Annotated[str, Field(description="untrusted data"), Mark.UNTRUSTED]
"""A string that came from a system outside: cleaned and cut on its way out, and documented as untrusted."""

Identity = Annotated[Untrusted, Mark.IDENTITY]
"""The name of who asked or approved, or of the caller, where the answer is about just that: it is untrusted, since an
identity provider gave it, but not masked as personal data for those who may read the answer."""


class Effect(StrEnum):
    """Whether a call leaves something behind. A tool that proposes is recorded before it runs."""

    PROPOSES = "proposes"
    READS = "reads"


class Gatekeeper(Protocol):
    """What a tool may ask of policy while it runs: always about its own caller, and never a way around the gate."""

    def decide(
        self, action: Action, resource: Resource, context: tuple[tuple[str, Attribute], ...] = ()
    ) -> Decision: ...

    def visible(self, action: Action, resources: Sequence[Resource]) -> list[bool]:
        """One answer per resource, in order; siblings that no policy can tell apart share a decision."""
        ...

    def could(self, action: Action) -> bool:
        """Whether there can be any resource on which the caller may do this (Cedar's partial evaluation), with the scope
        that their token has."""
        ...

    @property
    def trust(self) -> AgentTrust:
        """What the settings say of the agents that the caller comes through."""
        ...

    def only_alone(self) -> Mapping[Action, frozenset[bool]]:
        """What the person may do by themselves, on the pages, and not through this agent and token: in strict
        environments (True) and in the others (False)."""
        ...


S = TypeVar("S")

Report = Callable[[str], Awaitable[None]]
"""Takes what there is to say of a call while it runs, in our own words; who asked may or may not hear it."""


async def _keep_quiet(_said: str) -> None:
    """Where nobody listens."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a running tool is given. `sources` holds the readers of outside systems by their class, `now` is seconds
    since the epoch, `pages` the base URL of the approval pages without a slash at its end (`""`: there are none),
    `rehearsal_wait` the seconds that a tool may wait for the applier's dry run. `report` says how far a call has come
    that takes its time."""

    caller: Caller
    policy: Gatekeeper
    tree: AppTree
    environments: Environments
    proposals: Proposals
    records: Records
    sources: Mapping[type[Any], Any]
    seal: Sealer
    now: float
    pages: str = ""
    rehearsal_wait: float = 3.0
    calendar: Calendar = Calendar()  # noqa: RUF009  # a constant
    report: Report = _keep_quiet
    ladder: PromotionSettings = PromotionSettings()  # noqa: RUF009  # a constant

    def source(self, kind: type[S]) -> S:
        """The configured source of that class; raises `Unavailable` when the settings name none."""
        found = self.sources.get(kind)
        if found is None:
            raise Unavailable(
                f"This Arborgate has no {kind.__name__} source configured.",
                hint="Ask the platform team to add one to the settings, or use another tool.",
            )
        return found  # type: ignore[no-any-return]  # the mapping is keyed by the class of its value


class Sealer(Protocol):
    """Page cursors bound to one caller and one tool, so that a cursor shows nobody what its reader may not see."""

    def seal(self, caller: Caller, purpose: str, position: str) -> str: ...

    def open(self, caller: Caller, purpose: str, cursor: str) -> str:
        """The sealed position; raises `Invalid` (field `cursor`) for a cursor that is broken or another caller's."""
        ...


P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Tool(Generic[P, R]):
    """One tool, as a value. The gate runs it; nothing else does.

    `resources` names what the call is asked of: at least one, and every one must be allowed. It may raise `NotThere`.
    `target` is the parameter that names the resource: a denied read and a missing thing answer the same words about it.
    `render` writes the result as text: the same facts in a compact readable form, for clients that show only text.
    `budget` is how large an answer may be, `page` what of it comes in pages, and `narrower` how to ask for a smaller part
    of what is not ("all_resources=false"). `waits` is how many seconds longer than others a call of it may take, because
    it waits for people.
    """

    name: str
    description: str
    params: type[P]
    result: type[R]
    action: Action
    resources: Callable[[Context, P], Awaitable[Sequence[Resource]]]
    run: Callable[[Context, P], Awaitable[R]]
    render: Callable[[R], str]
    effect: Effect = Effect.READS
    target: str | None = None
    budget: Budget = ANSWER
    page: Page | None = None
    narrower: str = ""
    waits: float = 0.0


AnyTool = Tool[Any, Any]


def join_lines(lines: Iterable[str | None]) -> str:
    """The lines that have something to say, one under the other."""
    return "\n".join(line for line in lines if line)
