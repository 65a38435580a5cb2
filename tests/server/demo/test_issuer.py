"""The sandbox issuer, from the outside: as agents, browsers, terminals and the demo's own command line use it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jws, jwt
from joserfc.jwk import KeySet

from arborgate.policies.model import Caller, Channel
from arborgate.server.demo.configuration import PAGES, TERMINAL
from arborgate.server.demo.issuer import Issuer
from arborgate.server.demo.issuer_pages import IssuerPages
from arborgate.server.demo.listening import open_port, serving, url_of
from arborgate.server.demo.running import DEMO_CLIENT, ROLE_GRANT
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from arborgate.server.settings import Settings

pytestmark = pytest.mark.anyio

PUBLIC = "http://127.0.0.1:8484"
MCP, APPROVALS = f"{PUBLIC}/mcp", f"{PUBLIC}/approvals"
CALLBACK = "http://127.0.0.1:33418/callback"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

Json = dict[str, Any]


@dataclass
class Provider:
    """The issuer under test, and a browser and agent in one."""

    url: str
    secret: str
    client: httpx2.AsyncClient
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    async def register(self, **metadata: object) -> Json:
        asked = {
            "client_name": "Test agent",
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            **metadata,
        }
        answer = await self.client.post("/register", json=asked)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def ask(self, client_id: str, **changed: str | None) -> str:
        """The path of an authorization request; None leaves a parameter out."""
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid profile",
            "state": "a state",
            "nonce": secrets.token_hex(8),
            "code_challenge": create_s256_code_challenge(self.verifier),
            "code_challenge_method": "S256",
            "resource": MCP,
            **changed,
        }
        return f"/authorize?{urlencode({key: value for key, value in asked.items() if value is not None})}"

    async def choose(self, path: str, role: str = "developer", **headers: str) -> httpx2.Response:
        page = await self.client.get(path)
        assert page.status_code == 200, page.text
        assert f'value="{role}"' in page.text
        return await self.client.post(path, data={"role": role}, headers=headers)

    async def log_in(self, client_id: str, role: str = "developer", **changed: str | None) -> str:
        answer = await self.choose(self.ask(client_id, **changed), role)
        return returned(answer)["code"]

    async def redeem(self, client_id: str, code: str, **changed: str) -> httpx2.Response:
        asked = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            **changed,
        }
        return await self.client.post("/token", data=asked)

    async def judge(self, token: str, audience: str) -> Caller:
        """Who the product takes the bearer of this token for."""
        settings = IdentitySettings(issuers=(IssuerSettings(issuer=self.url),))
        identity = Identity(settings, Settings().roles, client=self.client)
        return await identity.authenticate(token, audience=audience, channel=Channel.TERMINAL)


def returned(answer: httpx2.Response) -> dict[str, str]:
    """What the redirect carries back to the client."""
    assert answer.status_code == 302, answer.text
    return {key: value for key, (value,) in parse_qs(urlsplit(answer.headers["location"]).query).items()}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    with open_port() as bound:
        url, secret = url_of(bound), secrets.token_hex(16)
        issuer = Issuer(url, PUBLIC, secret)
        async with (
            serving(IssuerPages(issuer).app, bound),
            httpx2.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            yield Provider(url, secret, client)


async def test_the_metadata_is_the_same_at_both_places_and_names_this_issuer(provider: Provider) -> None:
    found = [
        (await provider.client.get(f"/.well-known/{name}")).json()
        for name in ("openid-configuration", "oauth-authorization-server")
    ]
    assert found[0] == found[1]
    assert found[0]["issuer"] == provider.url
    assert found[0]["code_challenge_methods_supported"] == ["S256"]


async def test_an_agent_registers_and_gets_tokens_for_the_resource_it_asked_for(provider: Provider) -> None:
    agent = (await provider.register())["client_id"]
    answer = returned(await provider.choose(provider.ask(agent)))
    assert (answer["state"], answer["iss"]) == ("a state", provider.url)

    tokens = (await provider.redeem(agent, answer["code"], resource=MCP)).json()

    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 600)
    assert jws.extract_compact(tokens["access_token"].encode()).headers()["typ"] == "at+jwt"
    caller = await provider.judge(tokens["access_token"], MCP)
    assert (caller.subject, caller.name, caller.roles) == ("dev", "Dev Developer", frozenset({"developer"}))
    assert caller.agent == agent
    with pytest.raises(Unauthenticated) as refused:
        await provider.judge(tokens["access_token"], APPROVALS)
    assert refused.value.flaw is Flaw.AUDIENCE


@pytest.mark.parametrize(
    ("role", "name", "group"),
    [
        ("viewer", "Vera Viewer", "arborgate-viewers"),
        ("developer", "Dev Developer", "arborgate-developers"),
        ("approver", "Ada Approver", "arborgate-approvers"),
        ("responder", "Rita Responder", "arborgate-responders"),
        ("auditor", "Otto Auditor", "arborgate-auditors"),
    ],
)
async def test_the_id_token_says_who_logged_in_when_and_for_whom(
    provider: Provider, role: str, name: str, group: str
) -> None:
    changed = {"redirect_uri": f"{PUBLIC}/login/callback", "resource": None, "nonce": "n-1", "prompt": "login"}
    code = await provider.log_in(PAGES, role, **changed)
    tokens = (await provider.redeem(PAGES, code, redirect_uri=f"{PUBLIC}/login/callback")).json()
    keys = KeySet.import_key_set((await provider.client.get("/jwks")).json())

    claims = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"]).claims

    assert (claims["iss"], claims["aud"], claims["nonce"]) == (provider.url, PAGES, "n-1")
    assert (claims["name"], claims["groups"]) == (name, [group])
    assert abs(claims["auth_time"] - claims["iat"]) <= 2
    with pytest.raises(Unauthenticated):  # what the browser logs in with opens no other door
        await provider.judge(tokens["access_token"], MCP)
    told = await provider.client.get("/userinfo", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert told.json() == {"sub": claims["sub"], "name": name, "groups": [group]}


async def test_a_code_needs_the_verifier_and_works_once(provider: Provider) -> None:
    agent = (await provider.register())["client_id"]
    code = await provider.log_in(agent)
    wrong = await provider.redeem(agent, code, code_verifier=secrets.token_urlsafe(48))
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    assert (await provider.redeem(agent, code)).status_code == 200
    assert (await provider.redeem(agent, code)).json()["error"] == "invalid_grant"


async def test_a_code_is_of_no_use_to_another_client(provider: Provider) -> None:
    agent, thief = [(await provider.register())["client_id"] for _ in range(2)]
    code = await provider.log_in(agent)
    assert (await provider.redeem(thief, code)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"resource": "https://elsewhere.example.com/mcp"}, "invalid_target"),
        ({"prompt": "none"}, "login_required"),
        ({"response_type": "token"}, "unsupported_response_type"),
    ],
)
async def test_a_bad_request_goes_back_to_the_client_with_the_reason(
    provider: Provider, changed: dict[str, str | None], error: str
) -> None:
    agent = (await provider.register())["client_id"]
    answer = returned(await provider.client.get(provider.ask(agent, **changed)))
    assert (answer["error"], answer["iss"]) == (error, provider.url)


async def test_tokens_can_not_be_had_for_another_resource_than_the_login_was_for(provider: Provider) -> None:
    agent = (await provider.register())["client_id"]
    answer = await provider.redeem(agent, await provider.log_in(agent), resource=APPROVALS)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")


@pytest.mark.parametrize("changed", [{"redirect_uri": "https://elsewhere.example.com/"}, {"client_id": "nobody"}])
async def test_nobody_is_sent_where_no_client_of_ours_is(provider: Provider, changed: dict[str, str]) -> None:
    agent = (await provider.register())["client_id"]
    answer = await provider.client.get(provider.ask(**{"client_id": agent, **changed}))
    assert answer.status_code in (400, 401)
    assert "location" not in answer.headers


async def test_a_native_client_may_listen_on_any_port_of_the_loopback(provider: Provider) -> None:
    elsewhere = "http://127.0.0.1:50001/callback"
    code = await provider.log_in(TERMINAL, "approver", redirect_uri=elsewhere, resource=None)
    tokens = (await provider.redeem(TERMINAL, code, redirect_uri=elsewhere)).json()
    assert (await provider.judge(tokens["access_token"], APPROVALS)).roles == {"approver"}


async def test_a_refresh_token_is_exchanged_for_another_and_then_void(provider: Provider) -> None:
    agent = (await provider.register())["client_id"]
    first = (await provider.redeem(agent, await provider.log_in(agent))).json()
    asked = {"grant_type": "refresh_token", "client_id": agent, "refresh_token": first["refresh_token"]}
    second = (await provider.client.post("/token", data=asked)).json()
    assert (await provider.judge(second["access_token"], MCP)).name == "Dev Developer"
    assert second["refresh_token"] != first["refresh_token"]
    assert (await provider.client.post("/token", data=asked)).json()["error"] == "invalid_grant"


async def test_a_client_with_a_secret_must_show_it(provider: Provider) -> None:
    made = await provider.register(token_endpoint_auth_method="client_secret_post")
    code = await provider.log_in(made["client_id"])
    assert (await provider.redeem(made["client_id"], code)).json()["error"] == "invalid_client"
    assert (await provider.redeem(made["client_id"], code, client_secret=made["client_secret"])).status_code == 200


async def test_the_secret_of_the_demo_buys_a_role_for_agents_and_never_for_approvals(provider: Provider) -> None:
    asked = {"grant_type": ROLE_GRANT, "role": "approver", "resource": APPROVALS}
    answer = await provider.client.post("/token", data=asked, auth=(DEMO_CLIENT, provider.secret))
    token = answer.json()["access_token"]
    assert (await provider.judge(token, MCP)).roles == {"approver"}
    with pytest.raises(Unauthenticated):
        await provider.judge(token, APPROVALS)


@pytest.mark.parametrize(("role", "error"), [("root", "invalid_request"), ("", "invalid_request")])
async def test_an_unknown_role_is_refused(provider: Provider, role: str, error: str) -> None:
    asked = {"grant_type": ROLE_GRANT, "role": role}
    answer = await provider.client.post("/token", data=asked, auth=(DEMO_CLIENT, provider.secret))
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert "viewer, developer, approver" in answer.json()["error_description"]


async def test_without_the_secret_there_is_no_role(provider: Provider) -> None:
    asked = {"grant_type": ROLE_GRANT, "role": "viewer", "client_id": DEMO_CLIENT}
    for answer in (
        await provider.client.post("/token", data=asked),
        await provider.client.post("/token", data=asked, auth=(DEMO_CLIENT, "guessed")),
    ):
        assert answer.json()["error"] == "invalid_client"


async def test_a_client_that_does_not_say_how_it_logs_in_gets_a_secret(provider: Provider) -> None:
    made = (await provider.client.post("/register", json={"redirect_uris": [CALLBACK]})).json()
    assert made["token_endpoint_auth_method"] == "client_secret_basic"
    assert made["client_secret"]


async def test_a_terminal_without_a_browser_logs_in_by_a_code(provider: Provider) -> None:
    begun = (
        await provider.client.post("/device_authorization", data={"client_id": TERMINAL, "scope": "openid"})
    ).json()
    asked = {"grant_type": DEVICE_GRANT, "client_id": TERMINAL, "device_code": begun["device_code"]}
    assert (await provider.client.post("/token", data=asked)).json()["error"] == "authorization_pending"
    page = await provider.client.get(begun["verification_uri_complete"])
    assert begun["user_code"] in page.text
    wrong = await provider.client.post("/device", data={"role": "approver", "user_code": "NONE-SUCH"})
    assert wrong.status_code == 400

    await provider.client.post("/device", data={"role": "approver", "user_code": begun["user_code"].lower()})

    tokens = (await provider.client.post("/token", data=asked)).json()
    assert (await provider.judge(tokens["access_token"], APPROVALS)).name == "Ada Approver"


@pytest.mark.parametrize("origin", ["https://elsewhere.example.com", "null"])
async def test_a_form_of_another_site_logs_nobody_in(provider: Provider, origin: str) -> None:
    agent = (await provider.register())["client_id"]
    assert (await provider.choose(provider.ask(agent), origin=origin)).status_code == 400
    assert (await provider.choose(provider.ask(agent), origin=provider.url)).status_code == 302


async def test_the_issuer_answers_under_its_own_name_only(provider: Provider) -> None:
    answer = await provider.client.get("/authorize", headers={"Host": "elsewhere.example.com"})
    assert (answer.status_code, answer.text) == (400, "Invalid host header")


async def test_the_page_says_that_it_is_a_demo_and_runs_no_script(provider: Provider) -> None:
    agent = (await provider.register(client_name="<b>Agent</b>"))["client_id"]
    page = await provider.client.get(provider.ask(agent))
    assert "sandbox login of a demo" in page.text
    assert "&lt;b&gt;Agent&lt;/b&gt;" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert '<html lang="en">' in page.text
