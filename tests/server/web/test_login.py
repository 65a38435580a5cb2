"""The login: with a certified provider, and against one that answers as an attacker would like."""

import base64
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import orjson
import pytest
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arborgate.policies.errors import ArborgateError, Unavailable
from arborgate.server.identity.settings import PagesSettings
from arborgate.server.web.login import Login, LoginFailed, own_page
from arborgate.tools.record import Event
from tests.parts.oidc import OidcProvider, describe_pages
from tests.server.issuing import ISSUER, Issuer
from tests.server.web.world import Visitor, World, open_world

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8484"


@pytest.fixture
async def real(tmp_path: Path, redis_url: str, oidc_provider: OidcProvider) -> AsyncIterator[World]:
    """Pages whose people log in at the certified provider."""
    secret = secrets.token_hex(16)
    (tmp_path / "secret").write_text(secret)
    oidc_provider.add_client(describe_pages("arborgate-pages", secret, f"{URL}/login/callback"))
    async with open_world(
        tmp_path / "record", redis_url, issuer=oidc_provider.issuer, client_secret_file=tmp_path / "secret"
    ) as world:
        yield world


async def walk(visitor: Visitor, person: str, start: str = "/login?start=1") -> httpx2.Response:
    """Logs in as a browser would, redirect by redirect; returns our answer to the callback."""
    answer = await visitor.get(start)
    async with httpx2.AsyncClient(base_url=visitor.world.pages.settings.issuer, trust_env=False) as provider:
        step = await provider.get(answer.headers["location"])
        if "/interaction/" in step.headers.get("location", ""):
            step = await provider.post(step.headers["location"], data={"login": person})
        while not (location := step.headers["location"]).startswith(URL):
            step = await provider.get(location)
    return await visitor.get(location)


async def test_a_person_logs_in_and_is_led_to_the_page_they_wanted(real: World) -> None:
    visitor = real.visit()
    assert 'href="/login?start=1&amp;next=/apps"' in (await visitor.get("/login?next=/apps")).text
    answer = await walk(visitor, "april", "/login?start=1&next=/apps")
    assert (answer.status_code, answer.headers["location"]) == (303, "/apps")
    page = (await visitor.get("/proposals")).text
    assert "April Approver" in page
    assert "approver</span>" in page
    (started,) = real.records(Event.SESSION_STARTED)
    assert started.caller.endswith("#april")


async def test_the_login_says_when_it_was(real: World) -> None:
    visitor = real.visit()
    await walk(visitor, "april")
    session = await real.sessions.find(visitor.client.cookies["arborgate"])
    assert session is not None
    assert abs(session.caller.authenticated_at - real.clock()) < 60


async def test_a_login_replaces_the_session_that_was_there(real: World) -> None:
    visitor = real.visit()
    planted = await real.start_session("mallory", "viewer")
    visitor.client.cookies.set("arborgate", planted, domain="127.0.0.1")
    await walk(visitor, "april")
    cookie = {one.name: one.value for one in visitor.client.cookies.jar}["arborgate"]
    assert cookie != planted
    assert await real.sessions.find(planted) is None


async def test_a_callback_works_once_and_only_in_the_browser_that_began(real: World) -> None:
    april, mallory = real.visit(), real.visit()
    begun = await april.get("/login?start=1")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    await mallory.get("/login?start=1")
    for visitor in (mallory, april):
        # Somebody else's browser uses the attempt up: what is left is to begin again.
        answer = await visitor.get(f"/login/callback?state={state}&code=stolen")
        assert answer.status_code == 403
        assert "arborgate=" not in answer.headers.get("set-cookie", "")
    assert [record.channel for record in real.records(Event.CALLER_REJECTED)] == ["pages", "pages"]


async def test_an_access_token_for_agents_opens_no_page(real: World, oidc_provider: OidcProvider) -> None:
    token = oidc_provider.log_in("dev", resource=f"{URL}/mcp")["access_token"]
    visitor = real.visit()
    proposal = await real.propose()
    headers = {"Authorization": f"Bearer {token}", "Origin": URL, "Sec-Fetch-Site": "same-origin"}
    for path in ("/proposals", f"/proposals/{proposal.id}", "/apps"):
        answer = await visitor.client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")
    form = {"digest": proposal.digest, "csrf": token}
    answer = await visitor.client.post(f"/proposals/{proposal.id}/approve", data=form, headers=headers)
    assert answer.status_code == 401
    visitor.client.cookies.set("arborgate", token, domain="127.0.0.1")
    assert (await visitor.get("/proposals")).status_code == 303


async def test_logging_in_again_asks_the_provider_to_ask_again(real: World) -> None:
    answer = await real.visit().get("/login?start=1&again=1&next=/proposals/p-1")
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["prompt"] == ["login"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["max_age"] == ["28800"]


async def test_without_the_provider_the_login_says_so(real: World, oidc_provider: OidcProvider) -> None:
    oidc_provider.stop()
    answer = await real.visit().get("/login?start=1")
    assert answer.status_code == 503
    assert oidc_provider.issuer not in answer.text


@pytest.mark.parametrize(
    "path",
    ["https://evil.test", "//evil.test", "/\\evil.test", "/login", "/proposals/../login?x", "javascript:alert(1)"],
)
def test_a_login_leads_nowhere_but_to_our_pages(path: str) -> None:
    assert own_page(path) == "/proposals"


def test_a_login_leads_back_to_one_proposal() -> None:
    assert own_page("/proposals/p-dc0l4eqjog") == "/proposals/p-dc0l4eqjog"


class Hostile(Issuer):
    """A provider whose ID tokens are what the test says: `changes` to the claims, `header`, `key`."""

    def __init__(self) -> None:
        super().__init__()
        self.nonce = ""
        self.changes: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.key: ECKey | None = None
        self.named = ISSUER
        self.answer: dict[str, Any] | None = None
        self.status = 200
        routes = [
            Route("/.well-known/openid-configuration", self._describe),
            Route("/jwks", self._jwks),
            Route("/token", self._token, methods=["POST"]),
            Route("/userinfo", self._userinfo),
        ]
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(Starlette(routes=routes)))

    async def _describe(self, _request: Request) -> Response:
        ends = {f"{name}_endpoint": f"{ISSUER}/{name}" for name in ("authorization", "token", "userinfo")}
        return JSONResponse({"issuer": self.named, "jwks_uri": f"{ISSUER}/jwks", **ends})

    async def _token(self, _request: Request) -> Response:
        claims = self.claims(aud="arborgate-pages", nonce=self.nonce, auth_time=1, client_id=None)
        claims = {name: value for name, value in {**claims, **self.changes}.items() if value is not None}
        token = self.sign(claims, header={"typ": "JWT", **self.header}, key=self.key)
        return JSONResponse(self.answer or {"id_token": token, "access_token": "opaque"}, self.status)

    async def _userinfo(self, _request: Request) -> Response:
        return JSONResponse({"sub": "ada", "groups": ["from-userinfo"]})


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    provider = Hostile()
    yield provider
    await provider.client.aclose()


async def come_back(world: World, hostile: Hostile, **query: str) -> Any:
    """Begins a login and finishes it with what the provider answers."""
    login = Login(PagesSettings(issuer=ISSUER), URL, world.state, hostile.client, clock=world.clock)
    asked = parse_qs(urlsplit(await login.begin("browser", next_page="/apps", again=False)).query)
    hostile.nonce = asked["nonce"][0]
    return await login.finish("browser", {"state": asked["state"][0], "code": "c", **query})


async def test_a_good_id_token_names_the_person(world: World, hostile: Hostile) -> None:
    entered = await come_back(world, hostile)
    assert (entered.person.subject, entered.person.groups, entered.next) == ("ada", ("arborgate-developers",), "/apps")


@pytest.mark.parametrize("browser", ["another", ""])
async def test_a_login_that_another_browser_began_is_refused(world: World, hostile: Hostile, browser: str) -> None:
    login = Login(PagesSettings(issuer=ISSUER), URL, world.state, hostile.client, clock=world.clock)
    asked = parse_qs(urlsplit(await login.begin("browser", next_page="", again=False)).query)
    hostile.nonce = asked["nonce"][0]
    with pytest.raises(LoginFailed):
        await login.finish(browser, {"state": asked["state"][0], "code": "c"})


async def test_a_login_is_finished_once(world: World, hostile: Hostile) -> None:
    login = Login(PagesSettings(issuer=ISSUER), URL, world.state, hostile.client, clock=world.clock)
    asked = parse_qs(urlsplit(await login.begin("browser", next_page="", again=False)).query)
    hostile.nonce = asked["nonce"][0]
    answer = {"state": asked["state"][0], "code": "c"}
    await login.finish("browser", answer)
    with pytest.raises(LoginFailed):
        await login.finish("browser", answer)


async def test_groups_may_come_from_userinfo(world: World, hostile: Hostile) -> None:
    hostile.changes = {"groups": None}
    assert (await come_back(world, hostile)).person.groups == ("from-userinfo",)


async def test_userinfo_about_somebody_else_is_refused(world: World, hostile: Hostile) -> None:
    hostile.changes = {"groups": None, "sub": "mallory"}
    with pytest.raises(LoginFailed):
        await come_back(world, hostile)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.test"},
        {"aud": "ide-copilot"},
        {"aud": ["arborgate-pages", "ide-copilot"]},
        {"azp": "ide-copilot"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"sub": None},
    ],
)
async def test_an_id_token_with_a_wrong_claim_is_refused(
    world: World, hostile: Hostile, changes: dict[str, Any]
) -> None:
    hostile.changes = changes
    with pytest.raises(LoginFailed) as refused:
        await come_back(world, hostile)
    assert refused.value.message == "This login did not work."


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES512"}, {"kid": "unknown"}])
async def test_an_id_token_with_a_wrong_header_is_refused(
    world: World, hostile: Hostile, header: dict[str, Any]
) -> None:
    login = Login(PagesSettings(issuer=ISSUER), URL, world.state, hostile.client, clock=world.clock)
    asked = parse_qs(urlsplit(await login.begin("browser", next_page="", again=False)).query)
    claims = hostile.claims(aud="arborgate-pages", nonce=asked["nonce"][0], client_id=None)
    parts = ({"alg": "ES256", "kid": "k1", **header}, claims)
    encoded = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in parts]
    signature = "" if header.get("alg") == "none" else "c2lnbmF0dXJl"
    hostile.answer = {"id_token": ".".join([*encoded, signature])}
    with pytest.raises(LoginFailed):
        await login.finish("browser", {"state": asked["state"][0], "code": "c"})


async def test_an_id_token_signed_by_another_key_is_refused(world: World, hostile: Hostile) -> None:
    hostile.key = ECKey.generate_key("P-256", {"kid": "k1"})
    with pytest.raises(LoginFailed):
        await come_back(world, hostile)


async def test_an_answer_from_another_issuer_is_refused(world: World, hostile: Hostile) -> None:
    with pytest.raises(LoginFailed, match="did not work"):
        await come_back(world, hostile, iss="https://evil.test")


async def test_metadata_of_another_issuer_is_refused(world: World, hostile: Hostile) -> None:
    hostile.named = "https://evil.test"
    with pytest.raises(Unavailable):
        await come_back(world, hostile)


@pytest.mark.parametrize(
    ("status", "answer"), [(400, {"error": "invalid_grant"}), (200, {"access_token": "x"}), (503, {"error": "busy"})]
)
async def test_a_token_endpoint_that_gives_no_id_token_logs_nobody_in(
    world: World, hostile: Hostile, status: int, answer: dict[str, Any]
) -> None:
    hostile.status, hostile.answer = status, answer
    with pytest.raises(ArborgateError):
        await come_back(world, hostile)
