"""The protected resources, `/mcp` and `/approvals`: which tokens open each, and what it says of itself (RFC 9728)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..policies.model import Channel
from .challenges import Challenges
from .identity.settings import IdentitySettings, PagesSettings

METADATA_PATH = "/.well-known/oauth-protected-resource"
MCP_PATH = "/mcp"
APPROVALS_PATH = "/approvals"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedResource:
    """One of them. `url` is the public URL, `audience` what the tokens' `aud` must name, `issuers` where to get one.

    `bearer` says whether a token that is bound to no key would do for some issuer, `algorithms` how proofs may be
    signed, `client_id` which public client a person's own program is recommended to be, and `login_scope` what it asks
    for."""

    url: str
    path: str
    audience: str
    channel: Channel
    issuers: Sequence[str]
    algorithms: Sequence[str]
    bearer: bool = True
    scopes: Sequence[str] = ()
    client_id: str = ""
    login_scope: str = ""

    @property
    def metadata_path(self) -> str:
        return f"{METADATA_PATH}{self.path}"

    @property
    def challenges(self) -> Challenges:
        return Challenges(f"{self.url}{self.metadata_path}", self.algorithms, self.bearer)

    def describe(self) -> dict[str, Any]:
        """Its RFC 9728 document."""
        return {
            "resource": f"{self.url}{self.path}",
            "resource_name": "Arborgate",
            "authorization_servers": list(self.issuers),
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": list(self.algorithms),
            "dpop_bound_access_tokens_required": not self.bearer,
            **({"scopes_supported": list(self.scopes)} if self.scopes else {}),
            **({"arborgate_client_id": self.client_id} if self.client_id else {}),
            **({"arborgate_scope": self.login_scope} if self.login_scope else {}),
        }


def protect_mcp(url: str, settings: IdentitySettings) -> ProtectedResource:
    """`/mcp`, for agents."""
    return ProtectedResource(
        url=url,
        path=MCP_PATH,
        audience=f"{url}{MCP_PATH}",
        channel=Channel.MCP,
        issuers=[issuer.issuer for issuer in settings.issuers],
        algorithms=settings.dpop.algorithms,
        bearer=not settings.issuers or not all(issuer.require_dpop for issuer in settings.issuers),
        scopes=sorted({scope for issuer in settings.issuers for scope in issuer.scopes.values()}),
        client_id=settings.connect.client_id,
        login_scope=settings.connect.scope,
    )


def protect_approvals(url: str, settings: IdentitySettings, pages: PagesSettings) -> ProtectedResource:
    """`/approvals`, for people at a terminal."""
    bound = [issuer.require_dpop for issuer in settings.issuers if issuer.issuer == pages.issuer]
    return ProtectedResource(
        url=url,
        path=APPROVALS_PATH,
        audience=pages.terminal_audience or f"{url}{APPROVALS_PATH}",
        channel=Channel.TERMINAL,
        issuers=[pages.issuer],
        algorithms=settings.dpop.algorithms,
        bearer=not any(bound),
        client_id=pages.terminal_client_id,
        login_scope=pages.scope,
    )
