"""From the claims of a valid token to a caller: each issuer's own mapping (RFC 9068 section 2.2, RFC 8693 section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...policies.model import ActionGroup, Binding, Caller, Channel
from ...tools.text import neutralise
from .flaws import Flaw, Unauthenticated
from .membership import GroupsFile
from .roles import RoleMembers, grants_of, limit_roles, roles_of
from .settings import IssuerSettings, LocalCaller
from .tokens import NAME_LIMIT, is_name, read_seconds

_MOST_ACTORS = 8
_CLIENT_CLAIMS = ("client_id", "azp", "appid", "cid")


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


@dataclass(frozen=True, slots=True)
class Identified:
    """Who claims name: the subject that tells people of an issuer apart, a name for showing, and groups."""

    subject: str
    name: str
    groups: frozenset[str]


def identify(claims: Mapping[str, Any], issuer: IssuerSettings, members: GroupsFile | None = None) -> Identified:
    """Who valid claims name, the same for a token of an agent and for a login to the pages: whoever asks through the
    one must be known again in the other. Raises `Unauthenticated` when they name nobody.

    What policies or records tell people apart by is refused when there is anything invisible in it: cleaned, it could
    be somebody else's. The name is for showing alone, so it is cleaned."""
    subject = find_claim(claims, issuer.subject_claim)
    if not is_name(subject) or (issuer.subject_claim == "email" and not _verified_email(claims)):
        raise Unauthenticated(Flaw.CLAIMS, detail=issuer.subject_claim)
    name = find_claim(claims, issuer.name_claim)
    shown = " ".join(neutralise(name, NAME_LIMIT).split()) if isinstance(name, str) else ""
    return Identified(subject, shown or subject, read_groups(claims, issuer, members))


def caller_of(
    claims: Mapping[str, Any],
    issuer: IssuerSettings,
    roles: RoleMembers,
    channel: Channel,
    members: GroupsFile | None = None,
) -> Caller:
    """The caller that valid claims name; raises `Unauthenticated` when they name nobody, or an agent or actor with
    anything invisible in its name."""
    found = identify(claims, issuer, members)
    subject, groups = found.subject, found.groups
    agent = _agent(claims, issuer)
    actors = _actors(claims)
    acr = claims.get("acr")
    roles = limit_roles(roles, issuer.roles)
    return Caller(
        issuer=issuer.issuer,
        subject=subject,
        name=found.name,
        groups=groups,
        roles=roles_of(groups, roles),
        agent=agent,
        channel=channel,
        actors=actors,
        authenticated_at=int(read_seconds(claims, "auth_time") or 0),
        itself=issuer.services or (not actors and _acts_for_itself(claims, subject, agent)),
        binding=_binding(claims.get("cnf")),
        acr=acr if is_name(acr) else "",
        grants=grants_of(groups, roles),
        withheld=_withheld(claims, issuer),
    )


def read_groups(claims: Mapping[str, Any], issuer: IssuerSettings, members: GroupsFile | None = None) -> frozenset[str]:
    """The groups that the claims and the operators' file name, each behind the issuer's prefix.

    Raises `Unauthenticated` for a group with anything invisible in its name, and when the token names its groups by
    reference alone (OpenID Connect Core section 5.6.2, as Entra does from 200 groups on): a policy that forbids
    something to a group must not be passed by because nobody knows."""
    elsewhere = claims.get("_claim_names")
    if isinstance(elsewhere, dict) and issuer.groups_claim in elsewhere and issuer.groups_claim not in claims:
        raise Unauthenticated(Flaw.CLAIMS, detail=f"{issuer.groups_claim}: too many to be in the token")
    groups = read_texts(claims, issuer.groups_claim)
    if members is not None:
        subject = find_claim(claims, issuer.subject_claim)
        groups |= members.groups_of(subject if isinstance(subject, str) else "", _verified_email(claims))
    if not all(map(is_name, groups)):
        raise Unauthenticated(Flaw.CLAIMS, detail=issuer.groups_claim)
    return frozenset(f"{issuer.group_prefix}{group}" for group in groups) if issuer.group_prefix else groups


def find_claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, or the one nested there (`realm_access.roles`); a name may have dots or be a URL
    (`https://sts.amazonaws.com/.principal_tags.team`), so the longest name that is there counts. None for none."""
    if path in claims:
        return claims[path]
    end = len(path)
    while (end := path.rfind(".", 0, end)) > 0:
        inner = claims.get(path[:end])
        if isinstance(inner, dict) and (found := find_claim(inner, path[end + 1 :])) is not None:
            return found
    return None


def read_texts(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """The strings at a claim, which may be nested (`realm_access.roles`); anything else there counts for nothing."""
    value = find_claim(claims, path)
    if isinstance(value, str):
        return frozenset({value})
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


def _verified_email(claims: Mapping[str, Any]) -> str:
    """The e-mail address, if the provider has verified that it is theirs; else ""."""
    email = claims.get("email")
    return email if isinstance(email, str) and claims.get("email_verified") is True else ""


def _agent(claims: Mapping[str, Any], issuer: IssuerSettings) -> str:
    """The OAuth client that the token was issued to, by the claim of its kind of provider."""
    for name in (issuer.agent_claim, *_CLIENT_CLAIMS):
        found = find_claim(claims, name)
        if found is None or found == "":
            continue
        if not is_name(found):
            raise Unauthenticated(Flaw.CLAIMS, detail=name)
        return found
    return ""


def _acts_for_itself(claims: Mapping[str, Any], subject: str, agent: str) -> bool:
    """Whether there is no person behind, by what each kind of provider says of such tokens."""
    if subject == agent or subject in [claims.get(name) for name in _CLIENT_CLAIMS]:
        return True  # RFC 9068 section 2.2; also Okta's cid and Google's azp
    if claims.get("idtyp") == "app":  # Entra
        return True
    granted = claims.get("gty")  # Auth0
    if granted == "client-credentials" or (isinstance(granted, list) and "client-credentials" in granted):
        return True
    username = claims.get("preferred_username")  # Keycloak
    return bool(agent) and isinstance(username, str) and username == f"service-account-{agent.lower()}"


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


def _actors(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The chain of `act` claims (RFC 8693 section 4.1), the current actor first. One that is malformed or has more than
    eight links is refused: half a chain would hide who acts. (`may_act` says who might, and counts for nothing.)"""
    chain: list[str] = []
    inner: Mapping[str, Any] = claims
    while "act" in inner:
        inner = inner["act"]
        actor = (inner.get("sub") or inner.get("client_id")) if isinstance(inner, dict) else None
        if not is_name(actor) or len(chain) == _MOST_ACTORS:
            raise Unauthenticated(Flaw.CLAIMS, detail="act")
        chain.append(actor)
    return tuple(chain)
