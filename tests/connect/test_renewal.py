"""A login that lives is renewed in time, by one process at a time, until the provider or the person ends it."""

import asyncio
import sys
import time

import httpx2
import pytest

from arborgate.policies.errors import Unavailable
from arborgate.server.connect.credentials import LoginRequired
from arborgate.server.connect.proofs import Prover
from tests.connect.office import Office, kept_tokens, log_in

pytestmark = pytest.mark.anyio


async def test_a_token_that_ends_soon_is_renewed_while_it_still_serves(office: Office) -> None:
    old = await log_in(office)
    entry = office.kept()
    soon = old.model_copy(update={"began": 0.0, "ends": time.time() + 20})
    office.store().write(office.slot, entry.model_copy(update={"tokens": soon}))
    async with office.session() as session:
        first, second = [await session.headers("POST", office.slot.resource) for _ in range(2)]
        assert first["Authorization"] == second["Authorization"] == f"DPoP {old.access_token}"
        async with asyncio.timeout(10):
            while kept_tokens(office) == soon:
                await asyncio.sleep(0.01)
        renewed = kept_tokens(office)
        assert (await session.headers("POST", office.slot.resource))["Authorization"] == f"DPoP {renewed.access_token}"
    assert renewed.refresh_token not in ("", old.refresh_token)


async def test_many_requests_with_a_token_that_has_run_out_renew_it_once(office: Office) -> None:
    await log_in(office)
    office.expire()
    async with office.session() as session:
        answers = await asyncio.gather(*(office.ask(session) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert office.shown.qsize() == 1


async def test_a_token_that_the_server_refuses_is_renewed(office: Office) -> None:
    await log_in(office)
    tokens = kept_tokens(office)
    spoilt = tokens.model_copy(update={"access_token": tokens.access_token[:-4] + "AAAA"})
    office.store().write(office.slot, office.kept().model_copy(update={"tokens": spoilt}))
    async with office.session() as session:
        assert (await office.ask(session)).status_code == 200
    assert kept_tokens(office).access_token not in (tokens.access_token, spoilt.access_token)
    assert office.shown.qsize() == 1


async def test_a_new_token_that_is_refused_like_the_old_one_is_not_renewed_for_ever(office: Office) -> None:
    await log_in(office)
    refusal = {"www-authenticate": 'DPoP error="invalid_token"'}
    async with office.session() as session:
        await session.headers("POST", office.slot.resource)
        assert await session.learn(401, refusal)
        await session.headers("POST", office.slot.resource)
        renewed = kept_tokens(office)
        assert not await session.learn(401, refusal)
        await session.headers("POST", office.slot.resource)
    assert kept_tokens(office) == renewed


async def test_a_late_refusal_of_an_old_token_does_not_cost_the_new_one(office: Office) -> None:
    await log_in(office)
    refusal = {"www-authenticate": 'DPoP error="invalid_token"'}
    async with office.session() as session:
        sent, refused = asyncio.Event(), asyncio.Event()

        async def slow_request() -> bool:
            await session.headers("POST", office.slot.resource)
            sent.set()
            await refused.wait()
            return await session.learn(401, refusal)

        slow = asyncio.create_task(slow_request())
        await sent.wait()
        await session.headers("POST", office.slot.resource)
        await session.learn(401, refusal)
        await session.headers("POST", office.slot.resource)
        renewed = kept_tokens(office)
        refused.set()
        assert await slow
        await session.headers("POST", office.slot.resource)
    assert kept_tokens(office) == renewed


RENEW = """
import asyncio, pathlib, sys
from arborgate.server.connect.entries import Slot
from arborgate.server.connect.session import Session
from arborgate.server.connect.store import Store

async def main():
    store = Store(pathlib.Path(sys.argv[1]), print, lambda: None)
    async with Session.of_kept(Slot(sys.argv[2]), store, print) as session:
        await session.load()
        print("ready", flush=True)
        sys.stdin.readline()
        print((await session.headers("POST", sys.argv[2]))["Authorization"], flush=True)

asyncio.run(main())
"""


async def test_two_processes_that_renew_one_login_at_once_do_not_lose_it(office: Office) -> None:
    await log_in(office)
    office.expire()
    pipe = asyncio.subprocess.PIPE
    argv = (sys.executable, "-c", RENEW, str(office.state), office.slot.resource)
    others = [await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe) for _ in range(2)]
    for other in others:
        assert other.stdout is not None
        assert await other.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(other.communicate(b"\n") for other in others))
    tokens = kept_tokens(office)
    assert [out for out, _ in answers] == [f"DPoP {tokens.access_token}\n".encode()] * 2
    office.expire()
    async with office.session() as session:  # the refresh token that is kept is one that was not used
        assert (await office.ask(session)).status_code == 200


async def test_a_provider_that_is_away_costs_nothing_while_the_token_lives(office: Office) -> None:
    old = await log_in(office)
    async with office.session() as session:
        await office.ask(session)  # so that the server knows the provider's keys
    soon = old.model_copy(update={"began": 0.0, "ends": time.time() + 20})
    office.store().write(office.slot, office.kept().model_copy(update={"tokens": soon}))
    said = list(office.said)
    office.provider.stop()
    async with office.session() as session:
        for _ in range(3):
            assert (await office.ask(session)).status_code == 200
    assert office.said[-1:] == said[-1:]


async def test_a_provider_that_is_away_when_the_token_has_run_out_is_told_in_plain_words(office: Office) -> None:
    await log_in(office)
    office.expire()
    office.provider.stop()
    async with office.session() as session:
        with pytest.raises(Unavailable, match="Your login has run out") as failed:
            await session.headers("POST", office.slot.resource)
    assert "Try again in a moment" in str(failed.value.hint)
    assert kept_tokens(office).refresh_token


async def test_a_server_that_has_another_provider_now_needs_a_new_login(office: Office) -> None:
    await log_in(office)
    office.expire()
    entry = office.kept()
    old = "http://127.0.0.1:9"
    provider = entry.place.provider.model_copy(update={"issuer": old, "token_endpoint": f"{old}/token"})
    place = entry.place.model_copy(update={"provider": provider, "issuers": (old,)})
    office.store().write(office.slot, entry.model_copy(update={"place": place}))
    async with office.session(person="vera") as session:
        assert (await office.ask(session)).status_code == 200
    assert office.kept().place == entry.place


async def test_a_login_that_the_provider_ended_needs_the_person_again(office: Office) -> None:
    await log_in(office)
    office.expire()
    office.provider.revoke(kept_tokens(office).refresh_token, client_id=office.kept().client_id)
    key = office.kept().key
    async with office.session(ask=False) as session:
        with pytest.raises(LoginRequired) as told:
            await session.headers("POST", office.slot.resource)
    assert told.value.hint == f"Run in a terminal: arborgate login {office.url}"
    async with office.session(person="vera") as session:
        assert (await office.ask(session)).status_code == 200
    assert office.kept().key == key


async def test_a_client_that_the_provider_has_forgotten_is_registered_again(office: Office) -> None:
    await log_in(office)
    first = office.kept().client_id
    office.expire()
    office.provider.restart()  # clients that registered themselves live in its memory
    async with office.session(person="vera") as session:
        assert (await office.ask(session)).status_code == 200
    assert office.kept().client_id != first


async def test_another_process_login_is_noticed(office: Office) -> None:
    async with office.session(ask=False) as waiting:
        with pytest.raises(LoginRequired):
            await waiting.headers("POST", office.slot.resource)
        await log_in(office)
        assert (await office.ask(waiting)).status_code == 200
        async with office.session() as other:
            await other.load()
            assert await other.log_out()
        office_gone = office.store().read(office.slot)
    assert office_gone is None


async def test_a_logout_takes_the_login_back_and_forgets_the_key(office: Office) -> None:
    tokens = await log_in(office)
    entry = office.kept()
    async with office.session() as session:
        assert await session.log_out()
        assert not await session.log_out()
    assert office.store().read(office.slot) is None
    prover = Prover(entry.key)
    form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token, "client_id": entry.client_id}
    url = f"{office.provider.issuer}/token"
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(url, data=form, headers={"DPoP": prover.prove("POST", url)})
    assert answer.json()["error"] == "invalid_grant"


async def test_a_logout_while_the_provider_is_away_forgets_and_says_so(office: Office) -> None:
    await log_in(office)
    office.provider.stop()
    async with office.session() as session:
        assert await session.log_out()
    assert "was not taken back there" in office.said[-1]
    assert office.store().read(office.slot) is None
