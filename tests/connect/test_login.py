"""The login itself: by browser and by code, as which client, and whose answers count."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page

from arborgate.policies.errors import Denied, Invalid, Unavailable
from arborgate.server.connect.browsers import has_browser
from arborgate.server.connect.discovery import find_mcp
from arborgate.server.connect.entries import Asked, Entry, Place
from arborgate.server.connect.grants import GrantRefused, TokenEndpoint
from arborgate.server.connect.login import Login
from arborgate.server.connect.proofs import Prover, make_key
from arborgate.server.connect.registration import CLIENT_DOCUMENT_PATH, Client, choose_client, client_document
from arborgate.server.connect.store import Store
from arborgate.server.connect.web import Web
from tests.connect.net import ISSUER, MCP, URL, Net
from tests.connect.office import Office, open_office
from tests.parts.oidc import AGENT, OidcProvider, describe_agent

pytestmark = pytest.mark.anyio

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def read_url(url: str) -> httpx2.QueryParams:
    return httpx2.URL(url).params


async def test_a_person_logs_in_by_browser_and_no_secret_is_in_the_url(office: Office, page: Page) -> None:
    async with office.session() as session:
        login = asyncio.create_task(session.log_in())
        url = await office.shown.get()
        await page.goto(url)
        await page.get_by_label("User name").fill("vera")
        await page.keyboard.press("Enter")
        await page.get_by_text("Close this page").wait_for()
        await login
        assert "dpop: vera" in (await office.ask(session)).text
    entry = office.kept()
    asked = read_url(url)
    assert set(asked) == {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "dpop_jkt",
        "redirect_uri",
        "resource",
        "response_type",
        "scope",
        "state",
    }
    assert (asked["code_challenge_method"], asked["resource"]) == ("S256", f"{office.url}/mcp")
    assert asked["dpop_jkt"] == Prover(entry.key).thumbprint
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", asked["redirect_uri"])
    assert entry.key["d"] not in url
    assert any(url in said for said in office.said)


async def test_a_person_logs_in_by_a_code_on_another_device(office: Office, page: Page) -> None:
    async with office.session(device=True) as session:
        login = asyncio.create_task(session.log_in())
        await type_code(page, await wait_said(office, r"Go to (\S+) and type the code (\S+)"))
        await login
        assert "dpop: vera" in (await office.ask(session)).text


async def test_a_request_that_needs_a_code_typed_is_answered_with_the_code(office: Office, page: Page) -> None:
    async with office.session(device=True) as session:
        answers = await asyncio.gather(*(office.ask(session) for _ in range(2)), return_exceptions=True)
        told = [str(answer) for answer in answers]
        found = re.search(r"You have to log in\. Go to (\S+) and type the code (\S+)", told[0])
        assert found, told
        assert told[0] == told[1]
        await type_code(page, found)
        async with asyncio.timeout(20):
            while office.store().read(office.slot) is None:
                await asyncio.sleep(0.05)
        assert "dpop: vera" in (await office.ask(session)).text


async def test_where_no_browser_can_open_a_code_is_shown_if_the_provider_has_such(office: Office) -> None:
    async with office.session(show=None) as session:
        login = asyncio.create_task(session.log_in())
        await wait_said(office, r"type the code")
        login.cancel()
        await asyncio.gather(login, return_exceptions=True)


async def wait_said(office: Office, pattern: str) -> re.Match[str]:
    async with asyncio.timeout(10):
        while True:
            for said in office.said:
                if found := re.search(pattern, said):
                    return found
            await asyncio.sleep(0.01)


async def type_code(page: Page, shown: re.Match[str]) -> None:
    await page.goto(shown[1])
    await page.locator("input[name=user_code]").fill(shown[2])
    await page.locator("button[type=submit]").first.click()
    await page.locator("button[autofocus], button[type=submit]").first.click()
    await page.get_by_label("User name").fill("vera")
    await page.keyboard.press("Enter")
    await page.get_by_text("Sign-in Success").wait_for()


@pytest.mark.parametrize(
    ("environ", "platform", "has"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({}, "darwin", True),
    ],
)
async def test_a_browser_is_there_where_somebody_could_see_it(
    environ: dict[str, str], platform: str, has: bool
) -> None:
    assert has_browser(environ, platform) == has


class Stage:
    """A login at providers that never were; the browser is ours to play."""

    def __init__(self, net: Net, place: Place, prover: Prover | None, *, registered: bool = False) -> None:
        self.net = net
        self.urls: asyncio.Queue[str] = asyncio.Queue()
        self.said: list[str] = []
        web = net.web
        self.login = Login(
            place=place,
            client=Client("laptop", registered),
            web=web,
            endpoint=TokenEndpoint(web, place, "laptop", prover),
            prover=prover,
            say=self.said.append,
        )

    async def come_back(self, **changes: str | None) -> None:
        """Plays the browser that comes back from the provider; `changes` are parameters, None takes one away."""
        asked = read_url(await self.urls.get())
        query: dict[str, str | None] = {"code": "c-1", "state": asked["state"], "iss": ISSUER, **changes}
        async with httpx2.AsyncClient(trust_env=False) as browser:
            told = {name: value for name, value in query.items() if value is not None}
            self.answer = await browser.get(asked["redirect_uri"], params=told)

    async def run(self, **changes: str | None) -> Any:
        back = asyncio.create_task(self.come_back(**changes))
        try:
            return await self.login.by_browser(Asked(), self.urls.put_nowait)
        finally:
            await back


async def open_stage(token: Any = None, *, registered: bool = False, bound: bool = True, **changes: Any) -> Stage:
    net = Net.usual(**changes)
    net.answers[f"{ISSUER}/token"] = token or {"access_token": "at-1", "token_type": "DPoP", "expires_in": 60}
    place = await find_mcp(net.web, MCP)
    net.asked.clear()
    return Stage(net, place, Prover(make_key()) if bound else None, registered=registered)


async def test_a_code_is_redeemed_with_its_verifier_and_a_proof() -> None:
    stage = await open_stage()
    tokens = await stage.run()
    assert (tokens.access_token, tokens.bound, tokens.ends - tokens.began) == ("at-1", True, 60)
    (request,) = stage.net.asked
    form = httpx2.QueryParams(request.content.decode())
    assert set(form) == {"grant_type", "code", "redirect_uri", "code_verifier", "client_id", "resource"}
    assert (form["resource"], str(request.url)) == (MCP, f"{ISSUER}/token")
    assert request.headers["dpop"].count(".") == 2
    assert stage.answer.headers["content-security-policy"] == "default-src 'none'"


@pytest.mark.parametrize(
    ("changes", "metadata", "words"),
    [
        ({"iss": "https://evil.test"}, {}, "another login service"),
        ({"iss": None}, {}, "another login service"),
        ({"iss": "https://evil.test"}, {"authorization_response_iss_parameter_supported": False}, "another login"),
        ({"code": None, "error": "access_denied"}, {}, "did not work"),
        ({"code": None}, {}, "did not work"),
    ],
)
async def test_an_answer_of_anybody_else_is_no_login(
    changes: dict[str, str | None], metadata: dict[str, Any], words: str
) -> None:
    stage = await open_stage(**metadata)
    with pytest.raises(Denied, match=words):
        await stage.run(**changes)
    assert stage.net.asked == []


async def test_a_provider_that_names_no_issuer_in_answers_need_not() -> None:
    stage = await open_stage(authorization_response_iss_parameter_supported=False)
    assert (await stage.run(iss=None)).access_token == "at-1"


async def test_what_comes_back_without_our_state_is_passed_over() -> None:
    stage = await open_stage()

    async def come_back() -> None:
        url = await stage.urls.get()
        async with httpx2.AsyncClient(trust_env=False) as browser:
            where = read_url(url)["redirect_uri"]
            for query in ({"code": "evil", "state": "guess", "iss": ISSUER}, {"code": "evil", "iss": ISSUER}, {}):
                assert (await browser.get(where, params=query)).status_code == 404
            assert (await browser.post(where, params={"state": read_url(url)["state"], "code": "x"})).status_code == 404
            assert (await browser.get(where.replace("/callback", "/"))).status_code == 404
        stage.urls.put_nowait(url)
        await stage.come_back()

    back = asyncio.create_task(come_back())
    await stage.login.by_browser(Asked(), stage.urls.put_nowait)
    await back
    (request,) = stage.net.asked
    assert b"evil" not in request.content


@pytest.mark.parametrize("methods", [None, [], ["plain"]])
async def test_a_provider_without_pkce_gets_no_login_by_browser(methods: list[str] | None) -> None:
    stage = await open_stage(code_challenge_methods_supported=methods)
    with pytest.raises(Invalid, match="PKCE with S256"):
        async with asyncio.timeout(5):
            await stage.login.by_browser(Asked(), stage.urls.put_nowait)
    assert stage.urls.empty()


@pytest.mark.parametrize(
    "answer",
    [
        {"token_type": "DPoP", "expires_in": 60},
        {"access_token": "at", "token_type": "mac"},
        {"access_token": "at"},
        {"access_token": "at", "token_type": "DPoP", "expires_in": "soon"},
        {"access_token": "at", "token_type": "DPoP", "expires_in": -1},
        {"access_token": "at\r\nX: y\u00e9", "token_type": "DPoP"},
        httpx2.Response(500),
        httpx2.Response(429),
        httpx2.Response(200, text="fine"),
        httpx2.ReadTimeout("slow"),
    ],
)
async def test_an_answer_that_holds_no_token_is_none(answer: Any) -> None:
    stage = await open_stage(answer)
    with pytest.raises(Unavailable):
        await stage.run()


async def test_a_bound_token_is_believed_only_where_a_proof_was_sent() -> None:
    stage = await open_stage(bound=False)
    with pytest.raises(Unavailable):
        await stage.run()
    stage = await open_stage({"access_token": "at", "token_type": "bearer"}, bound=True)
    assert not (await stage.run()).bound


async def test_a_refresh_that_loses_the_binding_is_refused() -> None:
    stage = await open_stage()
    tokens = (await stage.run()).model_copy(update={"refresh_token": "r-1"})
    stage.net.answers[f"{ISSUER}/token"] = {"access_token": "at-2", "token_type": "Bearer"}
    with pytest.raises(GrantRefused):
        await stage.login.endpoint.refresh(tokens)


async def test_a_configured_client_comes_before_a_recommended_one(office: Office) -> None:
    office.provider.add_client(describe_agent("laptops"))
    async with office.session(person="vera", client_id="laptops") as session:
        await session.log_in()
    assert (office.kept().client_id, office.kept().registered) == ("laptops", False)


async def test_the_client_that_arborgate_recommends_is_taken(
    tmp_path: Path, redis_url: str, oidc_provider: OidcProvider
) -> None:
    async with open_office(tmp_path, redis_url, oidc_provider, connect_as={"client_id": AGENT}) as office:
        async with office.session(person="vera") as session:
            await session.log_in()
        assert office.kept().client_id == AGENT


async def test_a_client_that_the_provider_does_not_know_is_told(office: Office) -> None:
    async with office.session(device=True, client_id="nobody") as session:
        with pytest.raises(Denied, match="does not know this program"):
            await session.log_in()


async def test_a_client_is_registered_once_and_then_known(office: Office) -> None:
    for _ in range(2):
        async with office.session(person="vera") as session:
            await session.log_in(Asked())
    known = office.store().read_client(office.provider.issuer)
    assert office.kept().client_id == known != ""


async def test_a_forgotten_registration_is_noticed_before_a_browser_opens(office: Office) -> None:
    office.store().write_client(office.provider.issuer, "forgotten")
    async with office.session(person="vera") as session:
        await session.log_in()
    assert office.shown.qsize() == 1
    assert office.store().read_client(office.provider.issuer) == office.kept().client_id != "forgotten"


async def test_the_document_that_arborgate_serves_is_a_client_to_a_real_provider(office: Office) -> None:
    document = client_document("https://arborgate.test")
    assert document is not None
    url = f"https://arborgate.test{CLIENT_DOCUMENT_PATH}"
    assert document["client_id"] == url
    office.provider.add_document(url, document)
    async with office.session(person="vera", client_id=url) as session:
        await session.log_in()
        assert "dpop: vera" in (await office.ask(session)).text
    assert kept_refresh(office.kept())


def kept_refresh(entry: Entry) -> str:
    return entry.tokens.refresh_token if entry.tokens else ""


async def test_there_is_no_document_where_no_provider_would_look() -> None:
    assert client_document("http://127.0.0.1:8484") is None


Choose = Callable[[Net], Any]


@pytest.fixture
def choose(tmp_path: Path) -> Choose:
    async def run(net: Net) -> Client:
        web = net.web
        return await choose_client(await find_mcp(web, MCP), MCP, web, Store(tmp_path / "a", print, lambda: None))

    return run


async def test_a_provider_that_takes_documents_gets_the_one_that_is_served(choose: Choose) -> None:
    url = f"{URL}{CLIENT_DOCUMENT_PATH}"
    net = Net.usual(client_id_metadata_document_supported=True)
    net.answers[url] = client_document(URL)
    assert await choose(net) == Client(url)
    net = Net.usual()
    net.answers[url] = client_document(URL)
    net.answers[f"{ISSUER}/register"] = {"client_id": "r-1"}
    assert await choose(net) == Client("r-1", registered=True)


@pytest.mark.parametrize("served", [None, {"client_id": "https://evil.test/client.json"}, httpx2.ConnectError("gone")])
async def test_a_document_that_is_not_served_is_no_client(choose: Choose, served: Any) -> None:
    net = Net.usual(client_id_metadata_document_supported=True)
    net.answers[f"{URL}{CLIENT_DOCUMENT_PATH}"] = served
    net.answers[f"{ISSUER}/register"] = {"client_id": "r-1"}
    assert (await choose(net)).client_id == "r-1"


async def test_what_is_registered_is_a_public_native_client_for_bound_tokens(choose: Choose) -> None:
    net = Net.usual(device_authorization_endpoint=f"{ISSUER}/device", grant_types_supported=["refresh_token", DEVICE])
    net.answers[f"{ISSUER}/register"] = {"client_id": "r-1"}
    await choose(net)
    body = httpx2.Response(200, content=net.asked[-1].content).json()
    assert body == {
        "client_name": "Arborgate on this machine",
        "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token", DEVICE],
        "token_endpoint_auth_method": "none",
        "dpop_bound_access_tokens": True,
    }


async def test_without_any_client_a_person_is_told_what_to_do(choose: Choose) -> None:
    with pytest.raises(Invalid, match="registers nobody") as told:
        await choose(Net.usual(registration_endpoint=None))
    assert "identity.connect.client_id" in str(told.value.hint)
    net = Net.usual()
    net.answers[f"{ISSUER}/register"] = httpx2.Response(403, json={"error": "access_denied"})
    with pytest.raises(Invalid, match="refused to register this program: «access_denied»"):
        await choose(net)


async def test_an_answer_with_no_end_is_not_read_to_its_end() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    net = Net({URL: httpx2.Response(200, content=endless())})
    with pytest.raises(Unavailable, match="more than a login needs"):
        await net.web.get(URL)


async def test_nothing_is_asked_in_the_clear() -> None:
    net = Net()
    for web in (net.web, Web()):
        with pytest.raises(Unavailable, match="neither https nor on loopback"):
            await web.get("http://login.test/")
        await web.close()
    assert net.asked == []
