"""Who is told of what: the channels whose filters fit, and the people who want to know and may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...policies.engine import Engine
from ...policies.model import Action, Resource, ResourceType
from ...tools.proposal import Proposal, proposal_resources, touched
from ...tools.tree import AppTree
from ..identity.authentication import DenyList
from ..identity.flaws import Unauthenticated
from ..identity.roles import RoleMembers
from ..identity.settings import Grant
from .occasions import Occasion
from .people import People, Preferences
from .settings import ChannelSettings, NotifySettings
from .waiting import Due

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Audience:
    """`people` is None where nobody is mailed themselves. Who is on the list `denied` is told nothing."""

    settings: NotifySettings
    tree: AppTree
    roles: RoleMembers
    engine: Callable[[], Engine]
    people: People | None = None
    denied: DenyList | None = None

    def find_channels(self, proposal: Proposal, due: Due) -> list[ChannelSettings]:
        """The channels that one thing goes to; one that an escalation names gets it whatever its `events` are."""
        return [
            channel
            for channel in self.settings.channels
            if (channel.name in due.channels if due.channels else _takes(channel, due.occasion))
            and self._fits(channel, proposal)
        ]

    async def find_people(self, proposal: Proposal, due: Due, now: float) -> list[Preferences]:
        """The people who are told by mail of their own. Raises `Unavailable`."""
        if self.people is None:
            return []
        found = await self.people.all()
        return [
            each
            for each in found
            if each.wants(proposal, due.occasion, due.groups, now) and self.may_see(each, proposal, now)
        ]

    def may_see(self, person: Preferences, proposal: Proposal | None, now: float) -> bool:
        """Whether they may be told today: by policy, with the groups of a login that is not too old, and not shut out."""
        if now - person.seen_at > self.settings.people_days * _DAY:
            return False
        caller = person.as_caller(self.roles)
        if self.denied is not None:
            try:
                self.denied.check(caller, "", person.seen_at)
            except Unauthenticated:
                return False
        if proposal is None:
            return True
        resources = proposal_resources(proposal, self._apps(proposal))
        return bool(resources) and all(self.engine().visible(caller, Action.PROPOSAL_READ, resources))

    def find_usual(self, proposal: Proposal) -> tuple[str, ...]:
        """The groups that have an approver's role everywhere, or at an app above one of the targets."""
        above = {each.id for app in self._apps(proposal) for each in _list_above(app)}
        members = [member for role in self.settings.approver_roles for member in self.roles.get(role, ())]
        groups = [
            member.group if isinstance(member, Grant) else member
            for member in members
            if not isinstance(member, Grant) or member.at in above
        ]
        return tuple(dict.fromkeys(groups))

    def _fits(self, channel: ChannelSettings, proposal: Proposal) -> bool:
        content = proposal.content
        if channel.risks and content.risk not in channel.risks:
            return False
        if channel.environments and set(channel.environments).isdisjoint(content.environments):
            return False
        above = {each.id for app in self._apps(proposal) for each in _list_above(app)}
        return not channel.apps or not above.isdisjoint(channel.apps)

    def _apps(self, proposal: Proposal) -> Sequence[Resource]:
        return [self.tree.resource(each) for each in touched(proposal)]


def _takes(channel: ChannelSettings, occasion: Occasion) -> bool:
    return not channel.events or occasion in channel.events


def _list_above(app: Resource) -> Iterable[Resource]:
    """The app itself and every app above it."""
    if app.type is ResourceType.APP:
        yield app
        for parent in app.parents:
            yield from _list_above(parent)
