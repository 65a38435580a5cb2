"""People's own notification settings: what each wants to be told of, as they chose it on their page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pydantic import BaseModel, ConfigDict, ValidationError

from ...policies.model import Binding, Caller, Channel
from ...tools.proposal import Proposal
from ...tools.risk import Risk
from ..identity.roles import RoleMembers, grants_of, roles_of
from ..state import State, reaching_state
from .occasions import Occasion

WANTED = (Occasion.PROPOSED, Occasion.ESCALATION, Occasion.EXPIRING, Occasion.STUCK, Occasion.GLASS_BROKEN)
"""What somebody is told of who turns mail on and changes nothing else."""


class Preferences(BaseModel):
    """One person's choices, and who they were at their last login (`seen_at`, seconds since the epoch).

    `mail` is the address that the identity provider says is theirs and verified, `""` where it says none. Empty
    `environments` are all of them; nothing is sent before `muted_until`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...]
    mail: str
    seen_at: float
    on: bool = False
    events: tuple[Occasion, ...] = WANTED
    high_only: bool = False
    environments: tuple[str, ...] = ()
    muted_until: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.issuer}#{self.subject}"

    def wants(self, proposal: Proposal, occasion: Occasion, groups: Sequence[str], now: float) -> bool:
        """Whether to tell them. `groups` are those that something was escalated to: then only their people are asked.
        Who asked for a change is not asked to decide on it."""
        content = proposal.content
        return (
            self.reachable(now)
            and occasion in self.events
            and (content.risk is Risk.HIGH or not self.high_only)
            and (not self.environments or not set(self.environments).isdisjoint(content.environments))
            and (not groups or not set(groups).isdisjoint(self.groups))
            and not (occasion.waits and content.requester.key == self.key)
        )

    def reachable(self, now: float) -> bool:
        return self.on and bool(self.mail) and now >= self.muted_until

    def as_caller(self, roles: RoleMembers) -> Caller:
        """The person as policy is asked about them, with the roles that the settings give today."""
        return Caller(
            issuer=self.issuer,
            subject=self.subject,
            name=self.name,
            groups=frozenset(self.groups),
            roles=roles_of(self.groups, roles),
            agent="",
            channel=Channel.PAGES,
            authenticated_at=int(self.seen_at),
            binding=Binding.SESSION,
            grants=grants_of(self.groups, roles),
        )


class People:
    """The choices of all who have made some, in the state Redis. All methods raise `Unavailable`."""

    def __init__(self, state: State) -> None:
        self._redis = state.redis
        self._key = state.key("notify", "people")

    async def read(self, key: str) -> Preferences | None:
        with reaching_state():
            text = cast("str | None", await self._redis.hget(self._key, key))
        return _parse(text) if text else None

    async def put(self, preferences: Preferences) -> None:
        with reaching_state():
            await self._redis.hset(self._key, preferences.key, preferences.model_dump_json())

    async def all(self) -> list[Preferences]:
        with reaching_state():
            texts = cast("list[str]", await self._redis.hvals(self._key))
        return [each for text in texts if (each := _parse(text))]


def _parse(text: str) -> Preferences | None:
    try:
        return Preferences.model_validate_json(text)
    except ValidationError:
        return None
