"""Who is calling: access tokens of configured issuers, judged with all that comes with them, into a `Caller`.

The order of every token: form, issuer, header, key, signature, audience, times, caller; then, on every use of it, the deny
list and the binding to who presents it (RFC 6750, RFC 8705, RFC 8725, RFC 9068, RFC 9449).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2

from ...policies.model import Caller, Channel
from .callers import Identified, caller_of, identify
from .flaws import Flaw, Unauthenticated
from .keys import Keys, KeySource
from .membership import GroupsFile
from .presenting import BEARER, Presented, Scheme
from .roles import RoleMembers
from .settings import IdentitySettings, IssuerSettings
from .tokens import (
    TOKEN_LIMIT,
    Times,
    check_audience,
    check_header,
    check_kind,
    check_signature,
    check_times,
    is_name,
    take_apart,
)

_CACHE_SIZE = 10_000

Claims = Mapping[str, Any]


class ProofChecker(Protocol):
    """Checks DPoP proofs; each can be used once, on whichever replica."""

    async def check(self, presented: Presented, token: str, *, bound_to: str | None, nonce: bool) -> str:
        """The thumbprint (RFC 7638, base64url) of the proof's key, which must be `bound_to` unless that is None.

        `nonce`: the proof must hold a nonce of ours. Raises `Unauthenticated`, and `Unavailable` when nobody can
        tell whether the proof was used before."""
        ...


class DenyList(Protocol):
    """Tokens and people that are shut out before their tokens end."""

    def check(self, caller: Caller, token_id: str, issued_at: float) -> None:
        """Raises `Unauthenticated` for who is shut out, and `Unavailable` when the list is not known.

        `token_id` is `issuer#jti` of the token or "", `issued_at` its `iat` or 0."""
        ...


class Introspector(Protocol):
    """Asks an issuer about its opaque tokens (RFC 7662)."""

    @property
    def issuer(self) -> IssuerSettings: ...

    def knows(self, token: str) -> bool:
        """Whether a token, by how it begins, can be of this issuer."""
        ...

    async def ask(self, token: str) -> tuple[Claims, float]:
        """The claims of an active token, and until when (seconds since the epoch) they are believed.

        Raises `Unauthenticated` for any other token, and `Unavailable` when the issuer does not answer."""
        ...


@dataclass(frozen=True, slots=True)
class Trusted:
    """An issuer of JWTs: its settings, its keys, and how its claims become a caller."""

    settings: IssuerSettings
    keys: KeySource
    caller: Callable[[Claims, Channel], Caller]


@dataclass(frozen=True, slots=True)
class Safeguards:
    """What identity is built with besides the issuers. Without `proofs` no bound token is accepted."""

    proofs: ProofChecker | None = None
    denied: DenyList | None = None
    introspectors: Sequence[Introspector] = ()
    own: Trusted | None = None
    """Arborgate's own tokens, for one child app each."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A token that was judged. `jkt` and `x5t` are what it is bound to (RFC 7800 `cnf`), "" for nothing."""

    caller: Caller
    issuer: IssuerSettings
    times: Times
    token_id: str
    jkt: str
    x5t: str
    keys: KeySource | None = None
    generation: int = 0
    believed_until: float = 0.0

    def holds(self, now: float) -> bool:
        """Whether what vouched for it need not be asked again."""
        if self.keys is None:
            return now < self.believed_until
        return self.generation == self.keys.generation and self.keys.fresh


@dataclass(frozen=True, slots=True)
class Vouched:
    """What a token is good for: its caller, until when (seconds since the epoch, without leeway), and the thumbprint of
    the key that the request's proof was made with."""

    caller: Caller
    expires: float
    thumbprint: str


class Identity:
    """Turns a token into a caller. A bearer token seen before costs a hash and a look-up until it expires."""

    def __init__(
        self,
        settings: IdentitySettings,
        roles: RoleMembers,
        *,
        client: httpx2.AsyncClient,
        safeguards: Safeguards | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._roles = roles
        self._clock = clock
        self._safeguards = safeguards or Safeguards()
        self._members = {one.issuer: GroupsFile(one.groups_file) for one in settings.issuers if one.groups_file}
        self._trusted = {issuer.issuer: self._trust(issuer, client) for issuer in settings.issuers}
        if own := self._safeguards.own:
            self._trusted[own.settings.issuer] = own
        self._seen: OrderedDict[tuple[bytes, str, Channel], _Accepted] = OrderedDict()

    async def watch(self) -> None:
        """Keeps the groups that come from files current, for ever; returns at once when there are none."""
        async with asyncio.TaskGroup() as watching:
            for members in self._members.values():
                watching.create_task(members.watch(self._seen.clear))

    async def authenticate(
        self, token: str, *, audience: str, channel: Channel = Channel.MCP, presented: Presented = BEARER
    ) -> Caller:
        """The caller whom the token names; raises `Unauthenticated`, and `Unavailable` when that can't be found out.

        `audience` is what `aud` must hold (the RFC 8707 resource). An issuer's own `audience` setting replaces it for
        agents alone: what opens `/mcp` must never open the approvals."""
        accepted = await self._judge(token, audience, channel)
        if accepted.jkt or accepted.x5t or accepted.issuer.require_dpop or presented is not BEARER:
            await self._check_binding(accepted, token, presented)
        return accepted.caller

    async def vouch(self, token: str, *, audience: str, presented: Presented) -> Vouched:
        """What an agent's token in the body of a request is good for (RFC 8693 section 2.1); raises as `authenticate`.

        The request must come with a proof that is for no token (RFC 9449 section 5): by the key that the token is bound
        to, or by any key where it is bound to none."""
        accepted = await self._judge(token, audience, Channel.MCP)
        _check_certificate(accepted, presented)
        if accepted.issuer.require_dpop and not accepted.jkt:
            raise Unauthenticated(Flaw.UNBOUND)
        if self._safeguards.proofs is None:
            raise Unauthenticated(Flaw.PROOF_MISSING, detail="nothing here checks proofs")
        bound_to, nonce = accepted.jkt or None, accepted.issuer.dpop_nonce
        thumbprint = await self._safeguards.proofs.check(presented, "", bound_to=bound_to, nonce=nonce)
        return Vouched(accepted.caller, accepted.times.expires - accepted.issuer.leeway, thumbprint)

    async def _judge(self, token: str, audience: str, channel: Channel) -> _Accepted:
        """The token, valid and of nobody who is shut out; how it is presented is not looked at."""
        encoded = token.encode("utf-8", "surrogatepass")
        if not encoded:
            raise Unauthenticated(Flaw.MISSING)
        if len(encoded) > TOKEN_LIMIT:
            raise Unauthenticated(Flaw.FORMAT, detail=f"{len(encoded)} bytes")
        seen_as = (hashlib.sha256(encoded).digest(), audience, channel)
        now = self._clock()
        accepted = self._seen.get(seen_as)
        if accepted is None or not accepted.holds(now):
            accepted = await self._accept(token, encoded, audience, channel)
            self._seen[seen_as] = accepted
            if len(self._seen) > _CACHE_SIZE:
                self._seen.popitem(last=False)
        elif accepted.times.expires <= now:
            raise Unauthenticated(Flaw.EXPIRED)
        if (denied := self._safeguards.denied) is not None:
            denied.check(accepted.caller, accepted.token_id, accepted.times.issued)
        return accepted

    async def _accept(self, token: str, encoded: bytes, audience: str, channel: Channel) -> _Accepted:
        for introspector in self._safeguards.introspectors:
            if introspector.knows(token):
                claims, until = await introspector.ask(token)
                issuer = introspector.issuer
                times = self._check_claims(claims, issuer, audience, channel)
                caller = self._trusted[issuer.issuer].caller(claims, channel)
                return _Accepted(caller, issuer, times, *_marks(claims, issuer.issuer), believed_until=until)
        return await self._accept_jwt(encoded, audience, channel)

    async def _accept_jwt(self, token: bytes, audience: str, channel: Channel) -> _Accepted:
        jwt = take_apart(token)
        claims, named = jwt.claims, jwt.claims.get("iss")
        trusted = self._trusted.get(named) if isinstance(named, str) else None
        if trusted is None:
            raise Unauthenticated(Flaw.ISSUER)
        issuer, keys = trusted.settings, trusted.keys
        check_header(jwt.header, issuer)
        key_set = await keys.find(jwt.header.get("kid"))
        if key_set is None:
            raise Unauthenticated(Flaw.KEY)
        generation = keys.generation
        check_signature(jwt, key_set)
        times = self._check_claims(claims, issuer, audience, channel)
        check_kind(claims, issuer, (issuer.audience if channel is Channel.MCP else "") or audience)
        caller = trusted.caller(claims, channel)
        return _Accepted(caller, issuer, times, *_marks(claims, issuer.issuer), keys=keys, generation=generation)

    def _check_claims(self, claims: Claims, issuer: IssuerSettings, audience: str, channel: Channel) -> Times:
        check_audience(claims, (issuer.audience if channel is Channel.MCP else "") or audience)
        return check_times(claims, issuer, self._clock())

    async def _check_binding(self, accepted: _Accepted, token: str, presented: Presented) -> None:
        """A bound token is of use only to who holds the key (RFC 9449 section 7) or the certificate (RFC 8705 section
        3); a proof goes with no other token."""
        _check_certificate(accepted, presented)
        if not accepted.jkt:
            if presented.scheme is Scheme.DPOP or accepted.issuer.require_dpop:
                raise Unauthenticated(Flaw.UNBOUND)
            return
        if presented.scheme is not Scheme.DPOP:
            raise Unauthenticated(Flaw.DOWNGRADE)
        if self._safeguards.proofs is None:
            raise Unauthenticated(Flaw.PROOF_MISSING, detail="nothing here checks proofs")
        await self._safeguards.proofs.check(presented, token, bound_to=accepted.jkt, nonce=accepted.issuer.dpop_nonce)

    def identify(self, claims: Claims, issuer: IssuerSettings) -> Identified:
        """Who the claims of a login name, by the same mapping as tokens; raises `Unauthenticated`."""
        return identify(claims, issuer, self._members.get(issuer.issuer))

    def _trust(self, issuer: IssuerSettings, client: httpx2.AsyncClient) -> Trusted:
        settings = self._settings
        keys = Keys(issuer, client, max_age=settings.jwks_max_age, min_interval=settings.jwks_min_interval)
        members = self._members.get(issuer.issuer)
        return Trusted(issuer, keys, lambda claims, channel: caller_of(claims, issuer, self._roles, channel, members))


def _check_certificate(accepted: _Accepted, presented: Presented) -> None:
    if accepted.x5t and not hmac.compare_digest(accepted.x5t.encode(), _thumbprint(presented.certificate)):
        raise Unauthenticated(Flaw.CERTIFICATE)


def _marks(claims: Claims, issuer: str) -> tuple[str, str, str]:
    """`issuer#jti` ("" without one), `cnf.jkt` and `cnf.x5t#S256`. A confirmation that nothing here can check is
    refused, not passed over (RFC 7800 section 3.1)."""
    token_id, confirmation = claims.get("jti"), claims.get("cnf")
    if token_id is not None and not is_name(token_id):
        raise Unauthenticated(Flaw.CLAIMS, detail="jti")
    name = f"{issuer}#{token_id}" if token_id else ""
    if confirmation is None:
        return name, "", ""
    if not isinstance(confirmation, dict) or not confirmation or not confirmation.keys() <= {"jkt", "x5t#S256"}:
        raise Unauthenticated(Flaw.CLAIMS, detail="cnf")
    if not all(isinstance(value, str) and value for value in confirmation.values()):
        raise Unauthenticated(Flaw.CLAIMS, detail="cnf")
    return name, confirmation.get("jkt", ""), confirmation.get("x5t#S256", "")


def _thumbprint(certificate: bytes) -> bytes:
    """RFC 8705 section 3.1: SHA-256 over the DER, in base64url without padding; b"" for none."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=") if certificate else b""
