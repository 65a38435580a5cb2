"""Every way to a token, at the real provider, and what Arborgate makes of the token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import httpx2
import pytest
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from playwright.async_api import Page, expect
from pydantic import AnyUrl

from arborgate.tools.record import Event
from tests.identity.served import Seen, Served, who_am_i
from tests.parts.oidc import AGENT, ASSISTANT, SERVICE, OidcProvider
from tests.parts.redis import RedisServer

pytestmark = pytest.mark.anyio

BACK = "http://127.0.0.1:1/callback"
SECONDS_WITHOUT_PROVIDER = 60


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, oidc_session: OidcProvider
) -> Iterator[Served]:
    """One replica for all: it asks for the provider's keys once a second, as often as a test that waits for it needs."""
    folder, issuers = tmp_path_factory.mktemp("served"), [{"issuer": oidc_session.issuer}]
    redis_server.recover()
    with Served(folder, redis_server.url(), issuers, jwks_max_age=1, jwks_min_interval=0.1) as replica:
        yield replica


class InMemory:
    """Where the SDK's OAuth client keeps what it was given."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def test_a_copilot_finds_the_provider_registers_and_logs_a_person_in_with_the_browser(
    served: Served, oidc_provider: OidcProvider, page: Page
) -> None:
    await page.route("http://127.0.0.1:1/**", lambda route: route.fulfill(body="back"))

    async def show(url: str) -> None:
        await page.goto(url)
        await page.get_by_label("User name").fill("dev")
        await page.get_by_role("button", name="Log in").click()

    async def wait_for_code() -> AuthorizationCodeResult:
        await page.wait_for_url(f"{BACK}?*")
        back = httpx2.URL(page.url).params
        return AuthorizationCodeResult(code=back["code"], state=back["state"], iss=back["iss"])

    kept = InMemory()
    metadata = OAuthClientMetadata(client_name="a copilot", redirect_uris=[AnyUrl(BACK)])
    oauth = OAuthClientProvider(served.audience, metadata, kept, show, wait_for_code)
    async with httpx2.AsyncClient(auth=oauth, trust_env=False) as http:
        transport = streamable_http_client(served.audience, http_client=http)
        async with Client(transport, mode="2026-07-28") as client:
            seen = await who_am_i(client)
    assert kept.client is not None
    assert seen == Seen(
        key=f"{oidc_provider.issuer}#dev",
        agent=kept.client.client_id,
        groups=("arborgate-developers",),
        roles=("developer",),
    )


async def test_a_person_without_a_browser_at_hand_logs_in_on_another_device(
    served: Served, oidc_provider: OidcProvider, page: Page
) -> None:
    asked = {"client_id": AGENT, "scope": "openid profile", "resource": served.audience}
    started = httpx2.post(f"{oidc_provider.issuer}/device/auth", data=asked).json()
    await page.goto(started["verification_uri_complete"])
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("User name").fill("april")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_text("Sign-in Success")).to_be_visible()
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "client_id": AGENT,
        "device_code": started["device_code"],
    }
    token = httpx2.post(f"{oidc_provider.issuer}/token", data=exchange).json()["access_token"]
    assert await served.ask(token) == Seen(
        f"{oidc_provider.issuer}#april", AGENT, (), ("arborgate-approvers",), ("approver",)
    )


async def test_a_refreshed_token_is_the_same_caller(served: Served, oidc_provider: OidcProvider) -> None:
    first = oidc_provider.log_in("dev", resource=served.audience)
    second = oidc_provider.refresh(first["refresh_token"])
    assert first["access_token"] != second["access_token"]
    assert await served.ask(first["access_token"]) == await served.ask(second["access_token"])


async def test_an_app_that_acts_for_itself_is_told_from_a_person(served: Served, oidc_provider: OidcProvider) -> None:
    token = oidc_provider.log_in_service(resource=served.audience)["access_token"]
    assert await served.ask(token) == Seen(f"{oidc_provider.issuer}#{SERVICE}", SERVICE, itself=True)


async def test_a_token_for_another_audience_is_refused(served: Served, oidc_provider: OidcProvider) -> None:
    for elsewhere in (f"{served.url}/approvals", "http://127.0.0.1:1/mcp"):
        answer = await served.knock(oidc_provider.log_in("dev", resource=elsewhere)["access_token"])
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_an_id_token_is_no_access_token(served: Served, oidc_provider: OidcProvider) -> None:
    login = oidc_provider.log_in("dev", resource=served.audience)
    assert (await served.knock(login["id_token"])).status_code == 401


async def test_an_assistant_that_acts_for_a_person_is_named_beside_them(
    served: Served, oidc_provider: OidcProvider
) -> None:
    login = oidc_provider.log_in("dev", client_id=ASSISTANT, client_secret=oidc_provider.assistant_secret)
    token = oidc_provider.exchange(login["id_token"], resource=served.audience)["access_token"]
    assert await served.ask(token) == Seen(
        f"{oidc_provider.issuer}#dev", ASSISTANT, (ASSISTANT,), ("arborgate-developers",), ("developer",)
    )
    record = [one for one in served.records(Event.CALL_ANSWERED) if one.tool == "whoami"][-1]
    assert (record.caller, record.agent, record.actors) == (f"{oidc_provider.issuer}#dev", ASSISTANT, (ASSISTANT,))


async def test_an_assistant_by_itself_is_another_caller_with_less_reach(
    served: Served, oidc_provider: OidcProvider
) -> None:
    secret = oidc_provider.assistant_secret
    own = oidc_provider.log_in_service(client_id=ASSISTANT, client_secret=secret, resource=served.audience)
    seen = await served.ask(own["access_token"])
    assert seen == Seen(f"{oidc_provider.issuer}#{ASSISTANT}", ASSISTANT, itself=True)


@asynccontextmanager
async def calling(served: Served, *tokens: str) -> AsyncIterator[list[int]]:
    """Calls with every token, one after the other, without a pause while the block runs. Yields how often each was
    answered; the first call that fails ends the block with its error."""
    answered = [0] * len(tokens)
    done = asyncio.Event()

    async def work(number: int, token: str) -> None:
        async with served.client(token) as client:
            while not done.is_set():
                await who_am_i(client)
                answered[number] += 1

    async with asyncio.TaskGroup() as workers:
        for number, token in enumerate(tokens):
            workers.create_task(work(number, token))
        try:
            yield answered
        finally:
            done.set()


def have_grown(answered: list[int], before: list[int], *, by: int) -> bool:
    return all(now - then >= by for now, then in zip(answered, before, strict=True))


async def until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_no_call_fails_while_the_provider_rotates_its_keys(served: Served, oidc_provider: OidcProvider) -> None:
    tokens = [oidc_provider.log_in("dev", resource=served.audience)["access_token"]]
    for _ in range(3):
        async with calling(served, *tokens) as answered:
            await until(lambda: min(answered) >= 5)
            await asyncio.to_thread(oidc_provider.rotate_keys)
            tokens.append(oidc_provider.log_in("vera", resource=served.audience)["access_token"])
            assert (await served.ask(tokens[-1])).roles == ("viewer",)  # signed by a key that was not there before
            await until(partial(have_grown, answered, list(answered), by=5))


async def test_a_key_that_the_provider_took_back_opens_nothing(served: Served, oidc_provider: OidcProvider) -> None:
    token = oidc_provider.log_in("dev", resource=served.audience)["access_token"]
    assert (await served.knock(token)).status_code != 401
    await asyncio.to_thread(oidc_provider.rotate_keys, keep_old=False)

    async def is_refused() -> bool:
        return (await served.knock(token)).status_code == 401

    async with asyncio.timeout(10):
        while not await is_refused():
            await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_no_call_with_a_known_key_fails_while_the_provider_is_gone_for_a_minute(
    served: Served, oidc_provider: OidcProvider
) -> None:
    people = ("dev", "vera")
    tokens = [oidc_provider.log_in(person, resource=served.audience)["access_token"] for person in people]
    async with calling(served, *tokens) as answered:
        await until(lambda: min(answered) >= 5)
        oidc_provider.stop()
        gone = time.monotonic()
        before = list(answered)
        while time.monotonic() - gone < SECONDS_WITHOUT_PROVIDER:
            # A token that was not seen before is as good as its key is known.
            await served.ask(tokens[0])
        assert have_grown(answered, before, by=SECONDS_WITHOUT_PROVIDER)


async def test_a_provider_that_does_not_answer_delays_no_call_with_a_known_key(
    served: Served, oidc_provider: OidcProvider
) -> None:
    token = oidc_provider.log_in("dev", resource=served.audience)["access_token"]
    another = oidc_provider.log_in("vera", resource=served.audience)["access_token"]
    await served.ask(token)
    oidc_provider.pause()
    paused, slowest = time.monotonic(), 0.0
    async with served.client(token) as client, served.client(another) as newcomer:
        while time.monotonic() - paused < 3:  # three times the age at which keys are fetched again
            for one in (client, newcomer):
                began = time.monotonic()
                await who_am_i(one)
                slowest = max(slowest, time.monotonic() - began)
    assert slowest < 2
