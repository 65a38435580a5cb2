"""Roles: the one place where a provider's groups become what policies speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .settings import Grant, Member

RoleMembers = Mapping[str, Sequence[Member]]
"""Role: the groups that have it, everywhere or at one parent app."""


def limit_roles(roles: RoleMembers, allowed: Sequence[str] | None) -> RoleMembers:
    """The roles that the callers of one issuer can have at all; None leaves them all."""
    return roles if allowed is None else {role: roles[role] for role in allowed if role in roles}


def roles_of(groups: Iterable[str], roles: RoleMembers) -> frozenset[str]:
    """The roles that these groups have everywhere."""
    have = frozenset(groups)
    return frozenset(role for role, members in roles.items() if not have.isdisjoint(_everywhere(members)))


def grants_of(groups: Iterable[str], roles: RoleMembers) -> frozenset[tuple[str, str]]:
    """The roles that these groups have at one parent app and below it: pairs of role and app id."""
    have = frozenset(groups)
    return frozenset(
        (role, member.at)
        for role, members in roles.items()
        for member in members
        if isinstance(member, Grant) and member.group in have
    )


def _everywhere(members: Sequence[Member]) -> Iterable[str]:
    return (member for member in members if isinstance(member, str))
