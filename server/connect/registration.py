"""As which client a person's own program logs in: a configured one, one that describes itself, or one it registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...policies.errors import Invalid, Unavailable
from ...tools.text import quote
from .entries import Place, Provider, origin_of
from .store import Store
from .web import Web

CLIENT_DOCUMENT_PATH = "/.well-known/oauth-client/connect.json"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REDIRECT_PATH = "/callback"

_NAME = "Arborgate on this machine"
_TOLD = 200
_REDIRECT_URI = f"http://127.0.0.1{REDIRECT_PATH}"


@dataclass(frozen=True, slots=True)
class Client:
    """A public client; `registered` for this machine, so that the provider may have forgotten it."""

    client_id: str
    registered: bool = False


def client_document(public_url: str) -> dict[str, Any] | None:
    """The Client ID Metadata Document that Arborgate serves at `CLIENT_DOCUMENT_PATH`, whose URL is the client's id.

    None where Arborgate is not on https: no provider looks at a document elsewhere."""
    if not public_url.startswith("https://"):
        return None
    url = f"{public_url}{CLIENT_DOCUMENT_PATH}"
    return {"client_id": url, "client_uri": public_url, **_describe((DEVICE_GRANT,))}


async def choose_client(place: Place, resource: str, web: Web, store: Store, wanted: str = "") -> Client:
    """The client for a login at the place of a resource: `wanted` before all, then what the resource recommends, the
    document that it serves, what is registered already, and what can be registered.

    Raises `Invalid` when nothing of this is to be had."""
    if wanted or place.client_id:
        return Client(wanted or place.client_id)
    provider = place.provider
    if provider.client_id_metadata_document_supported and (url := await _find_document(resource, web)):
        return Client(url)
    if known := store.read_client(provider.issuer):
        return Client(known, registered=True)
    if provider.registration_endpoint:
        client_id = await _register(provider, web)
        store.write_client(provider.issuer, client_id)
        return Client(client_id, registered=True)
    raise Invalid(
        f"The provider {provider.issuer} registers nobody, and no client is configured.",
        field="--client-id",
        hint="Ask whoever runs Arborgate for a client id (identity.connect.client_id), and give it by --client-id.",
    )


async def _find_document(resource: str, web: Web) -> str:
    """The URL of the document that the resource's Arborgate serves for us, or ""."""
    url = f"{resource.removesuffix('/mcp')}{CLIENT_DOCUMENT_PATH}"
    if not url.startswith("https://") or origin_of(url) != origin_of(resource):
        return ""
    try:
        answer = await web.get(url)
    except Unavailable:
        return ""
    return url if answer.fine and answer.json.get("client_id") == url else ""


async def _register(provider: Provider, web: Web) -> str:
    """The id of a new client (RFC 7591)."""
    grants = provider.grant_types_supported
    device = bool(provider.device_authorization_endpoint) and (not grants or DEVICE_GRANT in grants)
    body = _describe((DEVICE_GRANT,) if device else ())
    if provider.binds:
        body["dpop_bound_access_tokens"] = True
    answer = await web.post_json(provider.registration_endpoint, body)
    client_id = answer.json.get("client_id")
    if not answer.fine or not isinstance(client_id, str) or not client_id:
        raise Invalid(
            f"The provider {provider.issuer} refused to register this program{_because(answer.json)}.",
            field="--client-id",
            hint="Ask whoever runs Arborgate for a client id, and give it by --client-id.",
        )
    return client_id


def _describe(more_grants: tuple[str, ...]) -> dict[str, Any]:
    return {
        "client_name": _NAME,
        "application_type": "native",
        "redirect_uris": [_REDIRECT_URI],
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token", *more_grants],
        "token_endpoint_auth_method": "none",
    }


def _because(body: Mapping[str, Any]) -> str:
    said = body.get("error_description") or body.get("error")
    return f": {quote(str(said), _TOLD)}" if said else ""
