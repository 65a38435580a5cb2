"""Servers that never were: what a login meets when somebody lies to it. Nothing leaves the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from arborgate.server.connect.web import Web

URL = "https://arborgate.test"
MCP = f"{URL}/mcp"
RESOURCE_URL = f"{URL}/.well-known/oauth-protected-resource/mcp"
ISSUER = "https://login.test"
ISSUER_URL = f"{ISSUER}/.well-known/oauth-authorization-server"

RESOURCE: Mapping[str, Any] = {
    "resource": MCP,
    "authorization_servers": [ISSUER],
    "dpop_bound_access_tokens_required": False,
}
PROVIDER: Mapping[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "registration_endpoint": f"{ISSUER}/register",
    "code_challenge_methods_supported": ["S256"],
    "dpop_signing_alg_values_supported": ["ES256"],
    "authorization_response_iss_parameter_supported": True,
}


def challenge(*challenges: str) -> httpx2.Response:
    return httpx2.Response(401, headers=[("WWW-Authenticate", each) for each in challenges])


@dataclass
class Net:
    """Answers by URL, 404 for every other; `asked` are the requests that came."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[httpx2.Request] = field(default_factory=list)

    @classmethod
    def usual(cls, **changes: Any) -> Net:
        """An Arborgate and its provider as they should be; `changes` are members of the provider's metadata."""
        told = {name: value for name, value in {**PROVIDER, **changes}.items() if value is not None}
        refusal = challenge(f'Bearer resource_metadata="{RESOURCE_URL}"')
        return cls({MCP: refusal, RESOURCE_URL: RESOURCE, ISSUER_URL: told})

    @property
    def web(self) -> Web:
        return Web(httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer)))

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.asked]

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        found = self.answers.get(str(request.url).partition("?")[0])
        if isinstance(found, list):
            found = found.pop(0)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, httpx2.Response):
            return found
        return httpx2.Response(404) if found is None else httpx2.Response(200, json=found)
