"""What a login is about and what it leaves behind: where, as which client, with which key, and the tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from ...policies.errors import Invalid
from ..section import is_https_or_loopback

DEFAULT_SCOPE = "openid profile offline_access"
_EARLY = 30.0


class Kept(BaseModel):
    """A part of what is kept. Members that a newer version wrote are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Provider(Kept):
    """An authorization server, as far as a login needs to know it (RFC 8414, RFC 8628, RFC 9207, RFC 9449)."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str = ""
    device_authorization_endpoint: str = ""
    registration_endpoint: str = ""
    revocation_endpoint: str = ""
    scopes_supported: tuple[str, ...] = ()
    grant_types_supported: tuple[str, ...] = ()
    code_challenge_methods_supported: tuple[str, ...] = ()
    dpop_signing_alg_values_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False
    client_id_metadata_document_supported: bool = False

    @property
    def binds(self) -> bool:
        """Whether it binds tokens to a key as ours are."""
        return "ES256" in self.dpop_signing_alg_values_supported


class Place(Kept):
    """One protected resource and the provider of its tokens. `audience` is what tokens are asked for (RFC 8707),
    `client_id` who a person's own program is recommended to be, "" for no recommendation.

    `issuers` are all the providers that the resource trusts. `bound_only`: it takes no token that is not bound to a key.
    `lasting`: a login may be prolonged without the person."""

    audience: str
    provider: Provider
    issuers: tuple[str, ...] = ()
    client_id: str = ""
    scope: str = DEFAULT_SCOPE
    bound_only: bool = False
    lasting: bool = True


class Tokens(Kept):
    """What the token endpoint answered. `bound` to the key or bearer; `began` and `ends` are seconds since the epoch;
    `scope` is what was granted."""

    access_token: str = Field(repr=False)
    refresh_token: str = Field(default="", repr=False)
    bound: bool
    began: float
    ends: float
    scope: str = ""

    @property
    def due(self) -> float:
        """When a new one should be fetched: half a minute before the end, or earlier in a short life."""
        return self.ends - min(_EARLY, (self.ends - self.began) / 5)


class Entry(Kept):
    """Everything about one login. `key` is the private JWK that proofs are signed with; `registered` says that the
    client was made for this machine and may be forgotten by the provider."""

    place: Place
    client_id: str
    registered: bool = False
    key: Mapping[str, str] = Field(repr=False)
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """The login of one account at one protected resource."""

    resource: str
    account: str = "default"

    @property
    def name(self) -> str:
        """A file name for it."""
        return hashlib.sha256(f"{self.resource}\n{self.account}".encode()).hexdigest()[:24]

    @property
    def origin(self) -> str:
        return origin_of(self.resource)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a login beyond the usual: `scope` in addition, `again` even of somebody who is logged in, and
    what a step-up challenge says (RFC 9470)."""

    scope: str = ""
    again: bool = False
    max_age: int | None = None
    acr_values: str = ""


def origin_of(url: str) -> str:
    """Scheme, host and port, as requests of one origin share them (RFC 6454)."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in (None, {"https": 443, "http": 80}.get(parts.scheme)) else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}"


def check_url(url: str, what: str) -> str:
    """The URL without a slash at its end; raises `Invalid` for one that a token must not be sent to."""
    try:
        parts, fine = urlsplit(url), is_https_or_loopback(url)
        _ = parts.port
    except ValueError:
        raise Invalid(f"{what}: {url!r} is not a URL.", field=what) from None
    if not fine:
        raise Invalid(f"{what}: {url!r} is neither https nor on loopback.", field=what)
    if parts.username is not None or parts.query or parts.fragment:
        raise Invalid(f"{what}: a URL without user, query and fragment is needed.", field=what)
    return url.rstrip("/")


def mcp_url(url: str, what: str = "URL") -> str:
    """The MCP endpoint of an Arborgate that is named with or without it; raises `Invalid`."""
    url = check_url(url, what)
    return url if url.endswith("/mcp") else f"{url}/mcp"
