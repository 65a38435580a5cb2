"""Arborgate's own tokens, each good for one child app: what they say, and whom they make of those who hold one.

A caller by such a token is the one whom it was given to: with the same key, so that nobody counts twice, but no further
than its one app and the groups of actions in its scope.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...policies.errors import BadConfiguration, Refused
from ...policies.model import ActionGroup, Binding, Caller, Channel
from .authentication import Trusted
from .flaws import Flaw, Unauthenticated
from .own_keys import ALGORITHM, LEEWAY_SECONDS, OwnKeys
from .roles import RoleMembers, grants_of, limit_roles, roles_of
from .settings import ExchangeSettings, IssuerSettings
from .tokens import TOKEN_LIMIT, is_name

SCOPES: Final = (ActionGroup.READ, ActionGroup.READ_SENSITIVE, ActionGroup.PROPOSE)
"""The groups of actions that a child token can be good for."""

_MOST_ACTORS: Final = 8


@dataclass(frozen=True, slots=True)
class ChildToken:
    """One that was made. `seconds` is how long it lives, `id` its `jti`."""

    text: str
    id: str
    seconds: int


class ChildTokens:
    """Makes child tokens, and says as `trusted` how identity is to take them. `url` is the public one, without a slash
    at its end; raises `BadConfiguration` when it is also the name of a configured issuer."""

    def __init__(
        self,
        url: str,
        settings: ExchangeSettings,
        issuers: Sequence[IssuerSettings],
        roles: RoleMembers,
        keys: OwnKeys,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._life = settings.life
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._roles = roles
        self._keys = keys
        self._clock = clock
        if url in self._issuers:
            raise BadConfiguration(f"identity.issuers: {url} is Arborgate itself, which signs tokens for child apps")
        issuer = IssuerSettings(
            issuer=url,
            algorithms=(ALGORITHM,),
            tokens="at+jwt",
            require_dpop=True,
            dpop_nonce=any(
                one.dpop_nonce for one in issuers
            ),  # where one issuer asks for it, children are no way round
            longest_life=settings.life,
            leeway=LEEWAY_SECONDS,
        )
        self.trusted = Trusted(issuer, keys, self._read)

    async def make(
        self, caller: Caller, app: str, scope: Collection[ActionGroup], *, thumbprint: str, ends: float
    ) -> ChildToken:
        """A token for the caller that is bound to a key and ends at `ends` (seconds since the epoch) at the latest.

        Raises `Refused` for a caller whom no token can hold, and `Unavailable`."""
        if len(caller.actors) >= _MOST_ACTORS:
            raise Refused("Too many have passed this token on.")
        now = int(self._clock())
        end = int(min(now + self._life, ends))
        made = ChildToken("", secrets.token_urlsafe(16), end - now)
        claims: dict[str, Any] = {
            "iss": self._url,
            "sub": caller.key,
            "aud": f"{self._url}/mcp",
            "iat": now,
            "exp": end,
            "jti": made.id,
            "client_id": caller.agent or caller.subject,
            "act": _write_actors((caller.key, *caller.actors)),
            "cnf": {"jkt": thumbprint},
            "scope": " ".join(sorted(scope)),
            "groups": sorted(caller.groups),
            "app": app,
            "orig": {"iss": caller.issuer, "sub": caller.subject, "name": caller.name, "agent": caller.agent},
        }
        text = await self._keys.sign(claims, ends=end)
        if len(text) > TOKEN_LIMIT:
            raise Refused("The caller is in more groups than a token can hold.")
        return ChildToken(text, made.id, made.seconds)

    def _read(self, claims: Mapping[str, Any], channel: Channel) -> Caller:
        """The caller of a valid child token, with the roles that their groups give them now."""
        if channel is not Channel.MCP:
            raise Unauthenticated(Flaw.AUDIENCE, detail="a token for a child app opens /mcp alone")
        original, app, groups = claims.get("orig"), claims.get("app"), claims.get("groups")
        if not isinstance(original, dict) or not isinstance(groups, list) or not all(map(is_name, groups)):
            raise Unauthenticated(Flaw.CLAIMS, detail="orig, groups")
        if not is_name(app):
            raise Unauthenticated(Flaw.CLAIMS, detail="app")
        issuer = self._issuers.get(str(original.get("iss")))
        if issuer is None:  # whom nobody vouches for any more has no token either
            raise Unauthenticated(Flaw.ISSUER, detail="orig")
        allowed = limit_roles(self._roles, issuer.roles)
        have = frozenset(groups)
        scope = frozenset(str(claims.get("scope", "")).split())
        return Caller(
            issuer=issuer.issuer,
            subject=str(original.get("sub")),
            name=str(original.get("name")),
            groups=have,
            roles=roles_of(have, allowed),
            agent=str(original.get("agent")),
            channel=channel,
            actors=_read_actors(claims),
            itself=True,
            binding=Binding.DPOP,
            grants=grants_of(have, allowed),
            within=app,
            # Whatever it may say, a child token makes no other tokens, approves nothing and applies nothing.
            withheld=tuple((group, str(group)) for group in ActionGroup if group not in SCOPES or group not in scope),
        )


def _write_actors(chain: Sequence[str]) -> dict[str, Any]:
    """The chain as nested `act` claims (RFC 8693 section 4.1), the current actor outermost."""
    act: dict[str, Any] = {}
    for actor in reversed(chain):
        act = {"sub": actor, **({"act": act} if act else {})}
    return act


def _read_actors(claims: Mapping[str, Any]) -> tuple[str, ...]:
    chain: list[str] = []
    act = claims.get("act")
    while isinstance(act, dict):
        chain.append(str(act.get("sub")))
        act = act.get("act")
    return tuple(chain)
