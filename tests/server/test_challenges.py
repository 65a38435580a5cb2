"""What a call's answer says when the token lacks something, or the caller asks too often: to clients of both eras."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from arborgate.policies.errors import Busy, LoginNeeded
from arborgate.policies.model import ActionGroup, Caller
from arborgate.server.http import build_app, requester
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from arborgate.server.mcp import build_server
from arborgate.server.metrics import Metrics
from arborgate.server.protected import protect_mcp
from arborgate.server.settings import HttpSettings
from arborgate.tools.tool import Context
from tests.parts.process import find_free_ports
from tests.server.issuing import ISSUER, Issuer
from tests.server.serving import ERAS, connected, serving
from tests.server.test_gate import Asked, Told, make_tool, open_world

pytestmark = pytest.mark.anyio

DEVELOPERS = {"developer": ("arborgate-developers",)}


class Bucket:
    """So many requests, whoever asks."""

    def __init__(self, requests: int) -> None:
        self.left = requests

    async def enter(self, caller: Caller) -> None:
        if self.left == 0:
            raise Busy("You ask too often.", retry_after=6.2)
        self.left -= 1

    def leave(self, caller: Caller) -> None:
        pass


async def ask_for_login(_ctx: Context, _params: Asked) -> Told:
    raise LoginNeeded(300, ("mfa", "key"))


async def answer(_ctx: Context, params: Asked) -> Told:
    return Told(app=params.app, note="fine")


async def be_ready() -> tuple[bool, Mapping[str, Any]]:
    return True, {}


@asynccontextmanager
async def open_door(
    tmp_path: Path, run: Any = answer, scopes: Mapping[ActionGroup, str] | None = None, requests: int = -1
) -> AsyncIterator[tuple[str, str, Bucket]]:
    """`/mcp`, a good token for it, and the bucket of who has that."""
    settings, issuer, tool, bucket = (
        HttpSettings(port=find_free_ports(1)[0]),
        Issuer(),
        make_tool(run),
        Bucket(requests),
    )
    trusted = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, scopes=scopes or {}),))
    async with open_world(tmp_path, tool) as world, issuer.client:
        app = build_app(
            settings=settings,
            server=build_server(world.gate, [tool], requester),
            gate=world.gate,
            identity=Identity(trusted, DEVELOPERS, client=issuer.client),
            resource=protect_mcp(settings.url, trusted),
            recorder=world.log,
            metrics=Metrics(),
            readiness=be_ready,
            limits=bucket,
        )
        async with serving(app, settings):
            yield f"{settings.url}/mcp", issuer.token(aud=f"{settings.url}/mcp"), bucket


async def call(url: str, token: str, era: str) -> tuple[str, list[httpx2.Response]]:
    """What the SDK's client tells the agent of a failed call, and the answers it got for calls."""
    seen: list[httpx2.Response] = []

    async def note(response: httpx2.Response) -> None:
        if b'"tools/call"' in response.request.content:
            seen.append(response)

    async with connected(url, token, era, note) as client:
        with pytest.raises(MCPError) as failed:
            await client.call_tool("app_get", {"app": "api"})
    return failed.value.error.message, seen


@pytest.mark.parametrize("era", ERAS)
async def test_a_lacking_scope_is_403_and_the_agent_is_told_which(tmp_path: Path, era: str) -> None:
    async with open_door(tmp_path, scopes={ActionGroup.READ: "arborgate:read"}) as (url, token, _):
        told, (refused,) = await call(url, token, era)
    assert told.startswith("denied: The token lacks the scope 'arborgate:read' for this.")
    assert refused.status_code == 403
    challenge = refused.headers["www-authenticate"]
    assert challenge.startswith('Bearer error="insufficient_scope"')
    assert ', scope="arborgate:read", resource_metadata="' in challenge


@pytest.mark.parametrize("era", ERAS)
async def test_a_login_that_does_not_do_is_401_and_the_agent_is_told_so(tmp_path: Path, era: str) -> None:
    async with open_door(tmp_path, run=ask_for_login) as (url, token, _):
        told, (refused,) = await call(url, token, era)
    assert told.startswith("denied: Policy asks for a more recent or a stronger login for this.")
    assert refused.status_code == 401
    challenge = refused.headers["www-authenticate"]
    assert challenge.startswith('Bearer error="insufficient_user_authentication"')
    assert ', acr_values="mfa key", max_age="300", resource_metadata="' in challenge


@pytest.mark.parametrize("era", ERAS)
async def test_who_asks_too_often_gets_429_and_the_agent_is_told_when_to_come_again(tmp_path: Path, era: str) -> None:
    async with open_door(tmp_path) as (url, token, bucket):
        async with connected(url, token, era) as client:
            await client.list_tools()
            bucket.left = 0
            with pytest.raises(MCPError) as failed:
                await client.call_tool("app_get", {"app": "api"})
        async with httpx2.AsyncClient() as http:
            refused = await http.post(url, headers={"Authorization": f"Bearer {token}"})
    assert failed.value.error.message == "busy: You ask too often.\nTry again in 7 s."
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")


async def test_the_scheme_of_a_challenge_is_that_of_the_token(tmp_path: Path) -> None:
    asked = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "app_get", "arguments": {"app": "a"}},
    }
    async with open_door(tmp_path, run=ask_for_login) as (url, token, _), httpx2.AsyncClient() as http:
        headers = {"Authorization": f"Bearer {token}", "DPoP": "x", "Accept": "application/json, text/event-stream"}
        refused = await http.post(url, json=asked, headers=headers)
    assert refused.headers["www-authenticate"].startswith("Bearer ")
