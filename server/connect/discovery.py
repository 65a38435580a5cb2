"""From the URL of an Arborgate to where one logs in: protected resource (RFC 9728), then its provider (RFC 8414, OIDC)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from ...policies.errors import Invalid, Unavailable
from ..section import is_https_or_loopback
from .challenges import read_challenges
from .entries import DEFAULT_SCOPE, Kept, Place, Provider, origin_of
from .web import Answer, Web

_RESOURCE = "/.well-known/oauth-protected-resource"
_SERVER = "/.well-known/oauth-authorization-server"
_OPENID = "/.well-known/openid-configuration"
_MOST_SCOPES = 50

M = TypeVar("M", bound=BaseModel)


class _Resource(Kept):
    """The RFC 9728 document, as far as a login needs it; `arborgate_…` is Arborgate's own advice."""

    resource: str
    authorization_servers: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()
    dpop_bound_access_tokens_required: bool = False
    arborgate_client_id: str = ""
    arborgate_scope: str = DEFAULT_SCOPE


async def find_mcp(web: Web, resource: str, issuer: str = "", before: str = "") -> Place:
    """Where to get tokens for an MCP endpoint; of several providers `issuer`, else the one of the login `before`,
    else the first.

    Raises `Invalid` for an issuer that is not among them, `Unavailable` when something there is not as it must be."""
    described, scope = await _describe(web, resource)
    if not described.authorization_servers:
        raise Unavailable(f"{resource} does not say where to log in.", hint="Ask whoever runs it.")
    if issuer and issuer not in described.authorization_servers:
        known = ", ".join(described.authorization_servers)
        raise Invalid(
            f"{resource} does not trust the issuer {issuer!r}.", field="--issuer", hint=f"It trusts: {known}."
        )
    trusted = described.authorization_servers
    provider = await find_provider(web, issuer or (before if before in trusted else trusted[0]))
    wanted = scope or " ".join(described.scopes_supported[:_MOST_SCOPES])
    return Place(
        audience=described.resource,
        provider=provider,
        issuers=described.authorization_servers,
        client_id=described.arborgate_client_id,
        scope=_join_scopes(provider, described.arborgate_scope, wanted),
        bound_only=described.dpop_bound_access_tokens_required,
    )


async def find_provider(web: Web, issuer: str) -> Provider:
    """The provider's metadata, which must name exactly this issuer (RFC 8414 section 3.3)."""
    if not is_https_or_loopback(issuer):
        raise Unavailable(f"The issuer {issuer!r} is neither https nor on loopback.")
    origin, path = origin_of(issuer), urlsplit(issuer).path.rstrip("/")
    # With a path there are three places (RFC 8414 sections 3.1 and 5), without one the last two are the same.
    for url in dict.fromkeys((f"{origin}{_SERVER}{path}", f"{origin}{_OPENID}{path}", f"{origin}{path}{_OPENID}")):
        answer = await web.get(url)
        if answer.status >= 500:
            raise Unavailable(f"The provider {issuer} answers with an error.")
        if answer.fine and answer.json:
            return _check_provider(parse(Provider, answer), issuer)
    raise Unavailable(f"The provider {issuer} does not describe itself (RFC 8414).")


def _check_provider(provider: Provider, issuer: str) -> Provider:
    if provider.issuer != issuer:
        raise Unavailable(f"The provider {issuer} says that it is another one.", detail=provider.issuer)
    endpoints = (
        provider.token_endpoint,
        provider.authorization_endpoint,
        provider.device_authorization_endpoint,
        provider.registration_endpoint,
        provider.revocation_endpoint,
    )
    if not all(is_https_or_loopback(endpoint) for endpoint in endpoints if endpoint):
        raise Unavailable(f"The provider {issuer} has an endpoint that is neither https nor on loopback.")
    return provider


async def _describe(web: Web, resource: str) -> tuple[_Resource, str]:
    """The document of the resource, and the scope that its challenge asks for."""
    refused = await web.get(resource)
    asked: Mapping[str, str] = {}
    for challenge in read_challenges(", ".join(refused.headers.get_list("www-authenticate"))):
        if challenge.scheme in ("bearer", "dpop") and "resource_metadata" in challenge.parameters:
            asked = challenge.parameters
            break
    parts = urlsplit(resource)
    url = asked.get("resource_metadata") or f"{origin_of(resource)}{_RESOURCE}{parts.path}"
    if origin_of(url) != origin_of(resource):
        raise Unavailable(f"{resource} refers to another server for its own description, which is not believed.")
    answer = await web.get(url)
    if not answer.fine or not answer.json:
        raise Unavailable(f"{resource} is no Arborgate: it does not describe itself (RFC 9728).")
    described = parse(_Resource, answer)
    if described.resource != resource:
        raise Unavailable(
            f"The server at {resource} calls itself {described.resource}.", hint="Use the URL that it calls itself."
        )
    return described, asked.get("scope", "")


def _join_scopes(provider: Provider, usual: str, wanted: str) -> str:
    """The usual scopes that the provider has (it may refuse others), and those that the resource wants."""
    offered = provider.scopes_supported
    scopes = [scope for scope in usual.split() if not offered or scope in offered]
    return " ".join(dict.fromkeys([*scopes, *wanted.split()]))


def parse(model: type[M], answer: Answer) -> M:
    """The answer as a model; raises `Unavailable` naming the fields that are wrong."""
    body: dict[str, Any] = {name: value for name, value in answer.json.items() if value is not None}
    try:
        return model.model_validate(body)
    except ValidationError as error:
        fields = ", ".join(sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]}))
        raise Unavailable(f"What {answer.url} says can't be used: {fields}.") from error
