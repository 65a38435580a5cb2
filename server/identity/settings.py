"""The settings of identity: which issuers are trusted, how their claims are read, and how people log in to the pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ...policies.model import ActionGroup
from ..section import Seconds, Section, is_https_or_loopback

Algorithm = Literal["RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"]
"""Asymmetric signatures only: a verifier must hold nothing that could sign."""


class IntrospectionSettings(Section):
    """Opaque tokens of an issuer, asked about at the issuer (RFC 7662). Answers are kept, never longer than the token
    lives."""

    url: str = Field(default="", description="default: from the issuer's metadata (RFC 8414)")
    client_id: str
    client_secret_file: Path
    prefix: str = Field(default="", description="how its opaque tokens begin; needed when two issuers have such tokens")
    max_age: Seconds = Field(default=60.0, description="how long an answer is believed")
    most_unknown: int = Field(default=20, ge=1, description="questions about unknown tokens per second, to the issuer")


class IssuerSettings(Section):
    """One OpenID provider or OAuth authorization server whose access tokens are accepted (RFC 9068)."""

    issuer: str
    audience: str = Field(default="", description="the tokens' aud; default <public_url>/mcp")
    jwks_url: str = Field(default="", description="default: from the issuer's metadata (RFC 8414, OIDC discovery)")
    ca_file: Path | None = Field(default=None, description="the CA of the issuer's own TLS certificate")
    jwks_token_file: Path | None = Field(
        default=None, description="a bearer token sent to the issuer alone when its keys are fetched (Kubernetes)"
    )
    algorithms: tuple[Algorithm, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    tokens: Literal["access", "at+jwt", "id"] = Field(
        default="access",
        description="access: JWT access tokens, whatever their typ says; at+jwt: only with the typ of RFC 9068; id: ID "
        "tokens, for providers that have no others",
    )
    subject_claim: str = "sub"
    name_claim: str = "name"
    agent_claim: str = Field(default="client_id", description="who acts for the person; azp, appid, cid are tried next")
    groups_claim: str = "groups"
    groups_file: Path | None = Field(
        default=None, description="YAML, `group: [subject or verified e-mail, …]`; read again when it changes"
    )
    group_prefix: str = Field(default="", description="put before each group: keeps one issuer's apart from another's")
    roles: tuple[str, ...] | None = Field(default=None, description="the only roles its callers can have; default: any")
    services: bool = Field(default=False, description="its callers are apps acting for themselves, never people")
    scopes: Mapping[ActionGroup, Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]] = Field(
        default_factory=dict, description="group of actions: the scope that a token needs for it"
    )
    require_dpop: bool = Field(default=False, description="refuse tokens that are not bound to a key (RFC 9449)")
    dpop_nonce: bool = Field(default=False, description="every proof must hold a nonce of ours (RFC 9449 section 8)")
    longest_life: Seconds = Field(default=86_400.0, description="a token that is good for longer is refused")
    leeway: float = Field(default=30.0, ge=0, le=120, description="seconds of clock difference")
    introspection: IntrospectionSettings | None = None


class DpopSettings(Section):
    """Proofs of possession (RFC 9449)."""

    algorithms: tuple[Literal["ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256"], ...] = (
        "ES256",
        "EdDSA",
        "Ed25519",
    )
    window: Seconds = Field(default=60.0, description="how old a proof may be; it is remembered for as long")
    nonce_life: Seconds = Field(default=120.0, description="how long a nonce of ours is good for")


class DenyListSettings(Section):
    """Tokens and people that are shut out before their tokens end, by `arborgate deny`."""

    enabled: bool = True
    refresh: Seconds = Field(default=2.0, description="how soon a replica knows")
    max_age: Seconds = Field(default=300.0, description="older than this, an unreachable list refuses everybody")


class LimitSettings(Section):
    """How much one caller through one agent may ask, over all replicas together."""

    rate: float = Field(default=20.0, gt=0, description="requests a second, in the long run")
    burst: int = Field(default=100, ge=1, description="requests at once, after a rest")
    in_flight: int = Field(default=32, ge=1, description="unanswered requests of one caller in one replica")


class ExchangeSettings(Section):
    """`POST /token/exchange` (RFC 8693): narrower, shorter tokens for one child app."""

    enabled: bool = False
    life: Seconds = Field(default=300.0, le=3_600, description="the longest that such a token lives")
    rotate: Seconds = Field(default=86_400.0, description="how long a signing key signs")


class StepUpSettings(Section):
    """What a challenge may ask of a person's login (RFC 9470)."""

    acr_values: tuple[str, ...] = Field(default=(), description="the provider's acr values, the weakest first")


class PagesSettings(Section):
    """The login of the approval pages: a client and an audience of their own."""

    issuer: str
    client_id: str = "arborgate-pages"
    client_secret_file: Path | None = None
    scope: str = "openid profile"
    subject_claim: str = Field(default="", description="in ID tokens; default: as in the issuer's tokens")
    name_claim: str = Field(default="", description="likewise")
    groups_claim: str = Field(default="", description="in ID tokens and userinfo; default: as in the issuer's tokens")
    session_idle: Seconds = 1_800.0
    session_limit: Seconds = 28_800.0
    logout_ends_tokens: bool = Field(
        default=False,
        description="a logout at the provider also shuts out the person's tokens, by the deny list (with a subject_claim "
        "other than sub: of people who have a session here)",
    )
    terminal_client_id: str = Field(default="arborgate-terminal", description="public client of `arborgate proposals`")
    terminal_audience: str = Field(default="", description="aud of its tokens; default <public_url>/approvals")


class ConnectSettings(Section):
    """What `arborgate connect` is told about logging in; all of it can be left to discovery."""

    client_id: str = Field(default="", description="a public client at the issuer; default: registered when needed")
    scope: str = Field(default="openid profile offline_access", description="what is asked for")


class Grant(Section):
    """A group that has a role at one parent app; the apps below inherit it."""

    group: str
    at: str = Field(pattern=r"^[^/]+/[^/]+/[^/]+$", description="the parent app, cluster/namespace/name")


Member = str | Grant
"""Who has a role: a group everywhere, or a group at one parent app."""


class LocalCaller(Section):
    """Who a local copilot acts for over stdio (`arborgate serve --stdio --as NAME`); never anonymous."""

    subject: str
    name: str = ""
    groups: tuple[str, ...] = ()
    agent: str = "stdio"


class IdentitySettings(Section):
    issuers: tuple[IssuerSettings, ...] = ()
    pages: PagesSettings | None = None
    connect: ConnectSettings = ConnectSettings()
    stdio: Mapping[str, LocalCaller] = Field(default_factory=dict)
    dpop: DpopSettings = DpopSettings()
    deny_list: DenyListSettings = DenyListSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    step_up: StepUpSettings = StepUpSettings()
    limits: LimitSettings = LimitSettings()
    jwks_max_age: Seconds = 3_600.0
    jwks_min_interval: Seconds = Field(
        default=30.0, description="time between two fetches for unknown keys, in the long run"
    )

    def pages_issuer(self, pages: PagesSettings) -> IssuerSettings:
        """How the claims of a login to the pages are read: as those of the same issuer's tokens, but where the same
        thing has another name in ID tokens."""
        known = (issuer for issuer in self.issuers if issuer.issuer == pages.issuer)
        issuer = next(known, IssuerSettings(issuer=pages.issuer))
        own = {name: getattr(pages, name) for name in ("subject_claim", "name_claim", "groups_claim")}
        apart = {name: claim for name, claim in own.items() if claim}
        return issuer.model_copy(update=apart) if apart else issuer

    @field_validator("issuers")
    @classmethod
    def _issuers_are_told_apart(cls, values: tuple[IssuerSettings, ...]) -> tuple[IssuerSettings, ...]:
        names = [value.issuer for value in values]
        if len(set(names)) != len(names):
            raise ValueError("two entries have the same issuer")
        asked = [value.introspection.prefix for value in values if value.introspection]
        if len(asked) > 1 and (len(set(asked)) != len(asked) or not all(asked)):
            # An opaque token says not whose it is, and must be shown to nobody but its own issuer.
            raise ValueError("issuers with introspection need a prefix each, and no two the same")
        if any("#" in name or "?" in name or "@" in name for name in names):
            # RFC 8414 section 2 knows neither; "#" would let one issuer name the people of another (`Caller.key`).
            raise ValueError("an issuer has no query, no fragment and no user")
        return values

    @model_validator(mode="after")
    def _agents_have_no_audience_of_the_terminal(self) -> Self:
        named = self.pages.terminal_audience if self.pages else ""
        if named and named in {issuer.audience for issuer in self.issuers}:
            raise ValueError(
                "pages.terminal_audience is also an issuer's audience: agents' tokens would open the approvals"
            )
        return self

    @model_validator(mode="after")
    def _issuers_are_https_or_loopback(self) -> Self:
        urls = [issuer.issuer for issuer in self.issuers]
        urls += [issuer.jwks_url for issuer in self.issuers if issuer.jwks_url]
        urls += [one.introspection.url for one in self.issuers if one.introspection and one.introspection.url]
        urls += [self.pages.issuer] if self.pages else []
        if not all(is_https_or_loopback(url) for url in urls):
            raise ValueError("an issuer, jwks_url or introspection.url is neither https nor on loopback")
        return self
