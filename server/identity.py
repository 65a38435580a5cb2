"""Who is calling: JWT access tokens of configured issuers, validated into a `Caller` (RFC 6750, RFC 8725, RFC 9068)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx2
import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, import_key
from joserfc.util import urlsafe_b64decode

from ..policies.errors import ArborgateError
from ..policies.model import Caller, Channel
from .settings import IdentitySettings, IssuerSettings, LocalCaller, is_https_or_loopback

logger = logging.getLogger(__name__)

TOKEN_LIMIT = 16_384
"""The most bytes a token may have: bigger ones are refused before anything is parsed."""

_CACHE_SIZE = 10_000
_PATIENCE_SECONDS = 0.25
"""How long a call whose key is known waits for newer keys of its issuer."""
_FIRST_RETRY_SECONDS = 1.0
"""The least time between two fetches while there are no keys at all."""
_ACCESS_TOKEN_TYPES = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_PLAIN_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256", "cty"})


class Flaw(StrEnum):
    """Why a token was refused: what the record says, and what the challenge may say."""

    ALGORITHM = "algorithm"
    AUDIENCE = "audience"
    CLAIMS = "claims"
    EXPIRED = "expired"
    FORMAT = "format"
    HEADER = "header"
    ISSUER = "issuer"
    KEY = "key"
    MISSING = "missing"
    NOT_YET = "not_yet"
    SIGNATURE = "signature"


_WORDS = {
    Flaw.ALGORITHM: "the token is signed with an algorithm that is not accepted here",
    Flaw.AUDIENCE: "the token was issued for another audience",
    Flaw.CLAIMS: "the token lacks a claim, or has one of the wrong type",
    Flaw.EXPIRED: "the token has expired",
    Flaw.FORMAT: "the token is not a signed JWT",
    Flaw.HEADER: "the token's header has a parameter that is not accepted here",
    Flaw.ISSUER: "the token's issuer is not trusted here",
    Flaw.KEY: "the token is signed with a key that its issuer does not publish",
    Flaw.MISSING: "a bearer token is needed",
    Flaw.NOT_YET: "the token is not valid yet",
    Flaw.SIGNATURE: "the token's signature does not verify",
}


class Unauthenticated(ArborgateError):
    """No caller: the token is missing or refused. `flaw` says why, in a closed vocabulary."""

    def __init__(self, flaw: Flaw, *, detail: str = "") -> None:
        super().__init__(_WORDS[flaw], detail=detail)
        self.flaw = flaw


def roles_of(groups: Iterable[str], roles: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The roles that these groups have by the settings: the one place where groups become roles."""
    have = frozenset(groups)
    return frozenset(role for role, members in roles.items() if not have.isdisjoint(members))


def local_caller(name: str, local: LocalCaller, roles: Mapping[str, Sequence[str]]) -> Caller:
    """The configured caller of a stdio session."""
    return Caller(
        issuer="local",
        subject=local.subject,
        name=local.name or name,
        groups=frozenset(local.groups),
        roles=roles_of(local.groups, roles),
        agent=local.agent,
        channel=Channel.STDIO,
    )


class Keys:
    """The signing keys of one issuer: fetched when first needed, kept when the issuer is away, and fetched again for
    an unknown `kid` at most once per `min_interval` seconds, however many callers ask at once."""

    def __init__(
        self, issuer: IssuerSettings, client: httpx2.AsyncClient, *, max_age: float, min_interval: float
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._max_age = max_age
        self._min_interval = min_interval
        self._keys: KeySet | None = None
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self.generation = 0

    @property
    def fresh(self) -> bool:
        """Whether the keys are younger than `max_age`: what they vouched for need not be asked again."""
        return time.monotonic() - self._fetched < self._max_age

    async def find(self, kid: str | None) -> KeySet | None:
        """The key set, if it holds the key (or, without a `kid`, if there is one); None when it does not.

        Keys that are known are not kept waiting for by a slow issuer: they are used while newer ones are fetched."""
        if self._holds(kid) and self.fresh:
            return self._keys
        if (fetching := self._start_fetch()) is not None:
            await asyncio.wait({fetching}, timeout=_PATIENCE_SECONDS if self._holds(kid) else None)
        return self._keys if self._holds(kid) else None

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one when it is time: one for all who ask, ended by none of them going away."""
        if self._fetching is None or self._fetching.done():
            interval = self._min_interval if self._keys is not None else min(self._min_interval, _FIRST_RETRY_SECONDS)
            if time.monotonic() - self._tried < interval:
                return None
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    def _holds(self, kid: str | None) -> bool:
        if self._keys is None:
            return False
        return len(self._keys.keys) == 1 if kid is None else any(key.kid == kid for key in self._keys.keys)

    async def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            url = self._issuer.jwks_url or await self._discover()
            response = await self._client.get(url)
            response.raise_for_status()
            document: dict[str, Any] = orjson.loads(response.content)
            self._keys = KeySet(_signing_keys(document["keys"]))
        except Exception as error:  # the issuer is away or answers nonsense, in whatever way
            # What is known stays in use, unknown keys stay unknown.
            logger.warning("the keys of %s can't be fetched: %s", self._issuer.issuer, type(error).__name__)
            return
        self._fetched = self._tried
        self.generation += 1

    async def _discover(self) -> str:
        """`jwks_uri` from the issuer's metadata (OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3)."""
        issuer = httpx2.URL(self._issuer.issuer)
        path = issuer.path.rstrip("/")
        paths = (f"{path}/.well-known/openid-configuration", f"/.well-known/oauth-authorization-server{path}")
        for candidate in paths:
            response = await self._client.get(issuer.copy_with(path=candidate))
            if response.status_code == 200:
                metadata: dict[str, Any] = orjson.loads(response.content)
                if metadata.get("issuer") != self._issuer.issuer:
                    raise ValueError("the metadata names another issuer")
                return _trustworthy(str(metadata["jwks_uri"]))
        raise ValueError("the issuer has no metadata")


@dataclass(frozen=True, slots=True)
class _Accepted:
    caller: Caller
    expires: float
    generation: int
    keys: Keys


class Identity:
    """Turns a bearer token into a caller. A token seen before costs a hash and a look-up until it expires."""

    def __init__(
        self,
        settings: IdentitySettings,
        roles: Mapping[str, Sequence[str]],
        *,
        client: httpx2.AsyncClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._roles = roles
        self._clock = clock
        self._issuers = {
            issuer.issuer: (
                issuer,
                Keys(issuer, client, max_age=settings.jwks_max_age, min_interval=settings.jwks_min_interval),
            )
            for issuer in settings.issuers
        }
        self._seen: OrderedDict[tuple[bytes, str, Channel], _Accepted] = OrderedDict()

    @property
    def issuers(self) -> tuple[str, ...]:
        return tuple(self._issuers)

    async def authenticate(self, token: str, *, audience: str, channel: Channel = Channel.MCP) -> Caller:
        """The caller whom the token names; raises `Unauthenticated`.

        `audience` is what `aud` must hold (the RFC 8707 resource). An issuer's own `audience` setting replaces it for
        agents alone: what opens `/mcp` must never open the approvals."""
        encoded = token.encode("utf-8", "surrogatepass")
        if not encoded:
            raise Unauthenticated(Flaw.MISSING)
        if len(encoded) > TOKEN_LIMIT:
            raise Unauthenticated(Flaw.FORMAT, detail=f"{len(encoded)} bytes")
        seen_as = (hashlib.sha256(encoded).digest(), audience, channel)
        accepted = self._seen.get(seen_as)
        if accepted is not None and accepted.generation == accepted.keys.generation and accepted.keys.fresh:
            if accepted.expires <= self._clock():
                raise Unauthenticated(Flaw.EXPIRED)
            return accepted.caller
        accepted = await self._validate(encoded, audience, channel)
        self._seen[seen_as] = accepted
        if len(self._seen) > _CACHE_SIZE:
            self._seen.popitem(last=False)
        return accepted.caller

    async def _validate(self, token: bytes, audience: str, channel: Channel) -> _Accepted:
        header, claims = _peek(token)
        named = claims.get("iss")
        issuer, keys = self._issuers.get(named, (None, None)) if isinstance(named, str) else (None, None)
        if issuer is None or keys is None:
            raise Unauthenticated(Flaw.ISSUER)
        _check_header(header, issuer)
        key_set = await keys.find(header.get("kid"))
        if key_set is None:
            raise Unauthenticated(Flaw.KEY)
        try:
            jws.deserialize_compact(token, key_set, algorithms=list(issuer.algorithms))
        except (JoseError, ValueError) as error:
            raise Unauthenticated(Flaw.SIGNATURE, detail=type(error).__name__) from error
        wanted = (issuer.audience if channel is Channel.MCP else "") or audience
        expires = self._check_claims(claims, issuer, wanted)
        return _Accepted(self._caller(claims, issuer, channel), expires, keys.generation, keys)

    def _check_claims(self, claims: Mapping[str, Any], issuer: IssuerSettings, audience: str) -> float:
        """Checks audience and times (RFC 9068 section 4); returns when the token stops being valid."""
        named = claims.get("aud")
        audiences = named if isinstance(named, list) else [named]
        if audience not in audiences:
            raise Unauthenticated(Flaw.AUDIENCE)
        now = self._clock()
        expires, begins, issued = (_seconds(claims, name) for name in ("exp", "nbf", "iat"))
        if expires is None:
            raise Unauthenticated(Flaw.CLAIMS, detail="exp")
        if expires + issuer.leeway <= now:
            raise Unauthenticated(Flaw.EXPIRED)
        if (begins or 0) - issuer.leeway > now or (issued or 0) - issuer.leeway > now:
            raise Unauthenticated(Flaw.NOT_YET)
        return expires + issuer.leeway

    def _caller(self, claims: Mapping[str, Any], issuer: IssuerSettings, channel: Channel) -> Caller:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise Unauthenticated(Flaw.CLAIMS, detail="sub")
        groups = read_texts(claims, issuer.groups_claim)
        name = claims.get(issuer.name_claim)
        agent = claims.get("client_id") or claims.get("azp") or ""
        return Caller(
            issuer=issuer.issuer,
            subject=subject,
            name=name if isinstance(name, str) and name else subject,
            groups=groups,
            roles=roles_of(groups, self._roles),
            agent=agent if isinstance(agent, str) else "",
            channel=channel,
            actors=_actors(claims.get("act")),
            authenticated_at=int(_seconds(claims, "auth_time") or 0),
        )


def _signing_keys(published: Iterable[Any]) -> list[Any]:
    """The public keys for signatures among those that an issuer publishes; one that is none costs no other."""
    keys = []
    for key in published:
        if not isinstance(key, dict) or key.get("use", "sig") != "sig" or key.get("kty") == "oct":
            continue
        try:
            keys.append(import_key(key))
        except (JoseError, KeyError, TypeError, ValueError) as error:
            logger.info("a published key can't be used: %s", type(error).__name__)
    return keys


def _trustworthy(url: str) -> str:
    """The URL, when what comes from there can't be forged on its way; raises ValueError."""
    if not is_https_or_loopback(url):
        raise ValueError("the keys are neither behind https nor on loopback")
    return url


def _peek(token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims before anything is verified: only to choose the issuer and refuse early."""
    parts = token.split(b".")
    if len(parts) != 3 or not all(parts):
        raise Unauthenticated(Flaw.FORMAT)
    try:
        header, claims = (orjson.loads(urlsafe_b64decode(part)) for part in parts[:2])
    except (ValueError, TypeError) as error:
        raise Unauthenticated(Flaw.FORMAT) from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise Unauthenticated(Flaw.FORMAT)
    return header, claims


def _check_header(header: Mapping[str, Any], issuer: IssuerSettings) -> None:
    if header.get("alg") not in issuer.algorithms:
        raise Unauthenticated(Flaw.ALGORITHM)
    if not header.keys() <= _PLAIN_HEADERS:
        # Nothing in the token says where its own key is (`jwk`, `jku`, `x5u`, `x5c`), nor what to skip (`crit`, `b64`).
        raise Unauthenticated(Flaw.HEADER, detail=", ".join(sorted(map(str, header.keys() - _PLAIN_HEADERS)))[:200])
    if str(header.get("typ", "JWT")).lower() not in _ACCESS_TOKEN_TYPES:
        raise Unauthenticated(Flaw.HEADER, detail="typ")
    if not isinstance(header.get("kid", ""), str):
        raise Unauthenticated(Flaw.HEADER, detail="kid")


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate claim (RFC 7519 section 2); a bool or text in its place is refused, not converted."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(Flaw.CLAIMS, detail=name)
    return float(value)


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
