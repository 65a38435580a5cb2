"""A login at work: bound requests, what is learned from refusals, and when a person is asked."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page

from arborgate.policies.errors import Invalid
from arborgate.policies.model import ActionGroup
from arborgate.server.connect.credentials import LoginRequired
from arborgate.server.connect.discovery import find_mcp
from arborgate.server.connect.entries import Asked, Place
from arborgate.server.connect.proofs import Prover, make_key
from arborgate.server.connect.web import Web
from tests.connect.office import WIDER, Office, kept_tokens, log_in, open_office
from tests.parts.oidc import AGENT, TWO_FACTORS, OidcProvider
from tests.server.web.walk import walk

pytestmark = pytest.mark.anyio


async def test_a_first_request_has_the_person_log_in_and_goes_through_bound(office: Office) -> None:
    async with office.session(person="vera") as session:
        answer = await office.ask(session)
        assert (answer.status_code, "dpop: vera" in answer.text) == (200, True)
        assert (await office.ask(session)).status_code == 200
    assert office.shown.qsize() == 1
    assert office.kept().registered


async def test_a_login_that_lives_needs_nobody_but_the_server(office: Office) -> None:
    await log_in(office)
    office.provider.pause()
    try:
        async with office.session() as session, asyncio.timeout(5):
            headers = await session.headers("POST", office.slot.resource)
    finally:
        office.provider.resume()
    assert headers["Authorization"].startswith("DPoP ")


async def test_a_stolen_token_is_of_no_use_without_the_key(office: Office) -> None:
    tokens = await log_in(office)
    thief = Prover(make_key())
    url = office.slot.resource
    async with httpx2.AsyncClient(trust_env=False) as client:
        for headers in (
            {"Authorization": f"Bearer {tokens.access_token}"},
            {"Authorization": f"DPoP {tokens.access_token}", "DPoP": thief.prove("POST", url, tokens.access_token)},
        ):
            assert (await client.post(url, json={}, headers=headers)).status_code == 401


async def test_a_token_goes_to_its_own_server_alone(office: Office) -> None:
    await log_in(office)
    async with office.session() as session:
        for url in ("https://evil.test/mcp", office.provider.issuer, office.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(Invalid):
                await session.headers("POST", url)


async def test_a_person_is_asked_once_however_many_requests_wait(office: Office) -> None:
    async with office.session(wait=0.3) as session:
        for _ in range(2):
            waiting = await asyncio.gather(*(office.ask(session) for _ in range(3)), return_exceptions=True)
            assert all(isinstance(each, LoginRequired) for each in waiting)
            told = waiting[0]
            assert isinstance(told, LoginRequired)
            assert "waits in your browser" in told.message
            assert str(told.hint).endswith(f"arborgate login {office.url}")
        url = office.shown.get_nowait()
        assert office.shown.empty()
        await asyncio.to_thread(walk, url, "vera")
        async with asyncio.timeout(10):
            while office.store().read(office.slot) is None:
                await asyncio.sleep(0.01)
        assert (await office.ask(session)).status_code == 200


async def test_two_programs_that_need_one_login_have_the_person_log_in_once(office: Office) -> None:
    async with office.session() as one, office.session() as other:
        asked = [asyncio.create_task(office.ask(session)) for session in (one, other)]
        await asyncio.to_thread(walk, await office.shown.get(), "vera")
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200, 200]
    assert office.shown.empty()


async def test_an_agent_that_tries_on_does_not_open_page_after_page(office: Office) -> None:
    def decline(url: str) -> None:
        office.shown.put_nowait(url)
        query = httpx2.URL(url).params
        back = httpx2.URL(query["redirect_uri"]).copy_merge_params(
            {"error": "access_denied", "state": query["state"], "iss": office.provider.issuer}
        )
        office.walking.append(asyncio.create_task(_get(back)))

    async with office.session(show=decline) as session:
        with pytest.raises(LoginRequired, match="It was declined"):
            await session.headers("POST", office.slot.resource)
        with pytest.raises(LoginRequired, match="nobody logged in when asked a moment ago"):
            await session.headers("POST", office.slot.resource)
    assert office.shown.qsize() == 1


async def _get(url: httpx2.URL) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        await client.get(url)


async def test_the_servers_nonce_is_taken_up_without_anybody_noticing(
    tmp_path: Path, redis_url: str, oidc_provider: OidcProvider
) -> None:
    async with open_office(tmp_path, redis_url, oidc_provider, dpop_nonce=True) as office:
        await log_in(office)
        async with office.session() as session:
            answers = [await office.ask(session) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3


async def test_the_providers_nonce_is_taken_up_too(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "provider").mkdir()
    with OidcProvider(tmp_path / "provider", require_nonce=True) as provider:
        async with open_office(tmp_path, redis_url, provider) as office:
            await log_in(office)
            office.expire()
            async with office.session() as session:
                assert (await office.ask(session)).status_code == 200
            assert kept_tokens(office).bound


@pytest.mark.parametrize("wrong", [-3_600, 3_600])
async def test_a_clock_that_is_wrong_is_set_by_the_servers(office: Office, wrong: float) -> None:
    async with office.session(person="vera", clock=lambda: time.time() + wrong) as session:
        assert (await office.ask(session)).status_code == 200
    assert kept_tokens(office).bound


async def test_a_scope_that_is_missing_is_asked_for_in_addition(
    tmp_path: Path, redis_url: str, oidc_provider: OidcProvider
) -> None:
    async with open_office(tmp_path, redis_url, oidc_provider, scopes={ActionGroup.PROPOSE: WIDER}) as office:

        async def find(web: Web) -> Place:
            return (await find_mcp(web, office.slot.resource)).model_copy(update={"scope": "openid offline_access"})

        async with office.session(person="vera", find=find) as session:
            assert (await office.ask(session)).status_code == 200
            assert WIDER not in kept_tokens(office).scope
            answer = await office.ask(session, "wider")
            assert (answer.status_code, office.shown.qsize()) == (200, 2)
        assert set(kept_tokens(office).scope.split()) >= {"openid", WIDER}


async def test_a_stronger_login_is_asked_for_by_browser(office: Office, page: Page) -> None:
    await log_in(office)
    office.shown.get_nowait()
    async with office.session() as session:
        assert (await office.ask(session)).status_code == 200
        answer = asyncio.create_task(office.ask(session, "strong"))
        url = await office.shown.get()
        asked = httpx2.URL(url).params
        assert (asked["max_age"], asked["acr_values"]) == ("300", TWO_FACTORS)
        await page.goto(url)
        await page.get_by_label("User name").fill("vera")
        await page.keyboard.press("Enter")
        assert (await answer).status_code == 200


async def test_a_login_that_is_not_strong_enough_after_all_is_not_asked_for_again(office: Office) -> None:
    await log_in(office)
    demand = {"www-authenticate": 'DPoP error="insufficient_user_authentication", max_age="1", acr_values="x y"'}
    async with office.session(person="vera") as session:
        await session.load()
        assert await session.learn(401, demand)
        assert not await session.learn(401, demand)
    assert office.shown.qsize() == 2


async def test_a_session_that_may_ask_nobody_names_the_command_for_what_is_asked(office: Office) -> None:
    await log_in(office)
    stronger = 'DPoP error="insufficient_user_authentication", max_age="300", acr_values="a;b c"'
    wider = 'DPoP error="insufficient_scope", scope="arborgate:propose"'
    async with office.session(ask=False) as session:
        await session.load()
        for header, options in ((stronger, "--acr-values 'a;b c' --max-age 300"), (wider, "arborgate:propose'")):
            with pytest.raises(LoginRequired, match="wider or stronger login") as told:
                await session.learn(403, {"www-authenticate": header})
            assert str(told.value.hint).endswith(options)


async def test_a_login_made_elsewhere_is_tried_before_anybody_is_asked(office: Office) -> None:
    await log_in(office)
    async with office.session(ask=False) as session:
        assert (await office.ask(session)).status_code == 200
        with pytest.raises(LoginRequired):
            await office.ask(session, "strong")
        async with office.session() as terminal:
            login = asyncio.create_task(terminal.log_in(Asked(acr_values=TWO_FACTORS)))
            url = [await office.shown.get() for _ in range(2)][1]
            await asyncio.to_thread(walk, url, "vera", second_factor=True)
            await login
        assert (await office.ask(session, "strong")).status_code == 200


async def test_where_no_key_can_be_had_a_bearer_token_has_to_do_and_that_is_said(office: Office) -> None:
    async with office.session(person="vera", find=_without_keys(office)) as session:
        answer = await office.ask(session)
        assert (answer.status_code, "bearer: vera" in answer.text) == (200, True)
        assert "bearer tokens: whoever gets hold of one can use it" in session.describe()


async def test_a_server_that_takes_bound_tokens_alone_is_told_from_one_that_is_broken(
    tmp_path: Path, redis_url: str, oidc_provider: OidcProvider
) -> None:
    async with open_office(tmp_path, redis_url, oidc_provider, require_dpop=True) as office:
        async with office.session(person="vera", client_id=AGENT) as session:
            assert "dpop: vera" in (await office.ask(session)).text
        async with office.session(person="vera", client_id=AGENT, find=_without_keys(office)) as session:
            await session.log_in(Asked())
            with pytest.raises(LoginRequired, match="bound to a key"):
                await office.ask(session)


def _without_keys(office: Office) -> Any:
    async def find(web: Web) -> Place:
        place = await find_mcp(web, office.slot.resource)
        provider = place.provider.model_copy(update={"dpop_signing_alg_values_supported": ()})
        return place.model_copy(update={"provider": provider, "bound_only": False})

    return find


async def test_no_token_and_no_key_is_ever_said(office: Office) -> None:
    await log_in(office)
    office.expire()
    async with office.session(person="vera") as session:
        await office.ask(session)
        told = f"{session.describe()} {office.said} {office.kept()!r}"
    entry = office.kept()
    assert entry.tokens is not None
    for secret in (entry.tokens.access_token, entry.tokens.refresh_token, entry.key["d"]):
        assert secret not in told
    assert entry.tokens.access_token not in str([office.shown.get_nowait() for _ in range(office.shown.qsize())])
