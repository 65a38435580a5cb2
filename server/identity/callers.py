"""From the claims of a valid token to a caller: each issuer's own mapping (RFC 9068 section 2.2, RFC 8693 section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...policies.model import ActionGroup, Binding, Caller, Channel
from .flaws import Flaw, Unauthenticated
from .roles import RoleMembers, grants_of, roles_of
from .settings import IssuerSettings, LocalCaller
from .tokens import read_seconds


def local_caller(name: str, local: LocalCaller, roles: RoleMembers) -> Caller:
    """The configured caller of a stdio session."""
    return Caller(
        issuer="local",
        subject=local.subject,
        name=local.name or name,
        groups=frozenset(local.groups),
        roles=roles_of(local.groups, roles),
        agent=local.agent,
        channel=Channel.STDIO,
        binding=Binding.LOCAL,
        grants=grants_of(local.groups, roles),
    )


def caller_of(claims: Mapping[str, Any], issuer: IssuerSettings, roles: RoleMembers, channel: Channel) -> Caller:
    """The caller that valid claims name; raises `Unauthenticated` when they name nobody."""
    subject = claims.get(issuer.subject_claim)
    if not isinstance(subject, str) or not subject:
        raise Unauthenticated(Flaw.CLAIMS, detail=issuer.subject_claim)
    groups = frozenset(f"{issuer.group_prefix}{group}" for group in read_texts(claims, issuer.groups_claim))
    name = claims.get(issuer.name_claim)
    agent = _agent(claims, issuer)
    actors = _actors(claims.get("act"))
    acr = claims.get("acr")
    return Caller(
        issuer=issuer.issuer,
        subject=subject,
        name=name if isinstance(name, str) and name else subject,
        groups=groups,
        roles=roles_of(groups, roles),
        agent=agent,
        channel=channel,
        actors=actors,
        authenticated_at=int(read_seconds(claims, "auth_time") or 0),
        itself=issuer.services or (subject == agent and not actors),
        binding=_binding(claims.get("cnf")),
        acr=acr if isinstance(acr, str) else "",
        grants=grants_of(groups, roles),
        withheld=_withheld(claims, issuer),
    )


def _agent(claims: Mapping[str, Any], issuer: IssuerSettings) -> str:
    """The OAuth client that the token was issued to, by the claim of its kind of provider."""
    for name in (issuer.agent_claim, "client_id", "azp", "appid", "cid"):
        if isinstance(found := claims.get(name), str) and found:
            return found
    return ""


def _binding(confirmation: Any) -> Binding:
    if not isinstance(confirmation, dict):
        return Binding.BEARER
    return Binding.DPOP if "jkt" in confirmation else Binding.MTLS


def _withheld(claims: Mapping[str, Any], issuer: IssuerSettings) -> tuple[tuple[ActionGroup, str], ...]:
    """The groups of actions that the token's scope leaves out, with the scope that would do."""
    if not issuer.scopes:
        return ()
    held = {scope for claim in ("scope", "scp") for text in read_texts(claims, claim) for scope in text.split()}
    return tuple((group, scope) for group, scope in sorted(issuer.scopes.items()) if scope not in held)


def read_texts(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """The strings at a claim, which may be nested (`realm_access.roles`); anything else there counts for nothing."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, str):
        return frozenset({value})
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


def _actors(act: Any) -> tuple[str, ...]:
    """The chain of `act` claims (RFC 8693 section 4.1), the current actor first; at most eight are kept."""
    chain: list[str] = []
    while isinstance(act, dict) and len(chain) < 8:
        actor = act.get("sub") or act.get("client_id")
        if isinstance(actor, str):
            chain.append(actor)
        act = act.get("act")
    return tuple(chain)
