"""Keys of issuers: rotation without a failed call, and no way for a stranger to make Arborgate hammer a provider."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.keys import Keys
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio

INTERVAL = 30.0
AT_ONCE = 3


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> Keys:
    return make_keys(issuer, clock)


def make_keys(issuer: Issuer, clock: Callable[[], float], **changes: Any) -> Keys:
    settings = IssuerSettings.model_validate({"issuer": ISSUER, **changes})
    return Keys(settings, issuer.client, max_age=3_600, min_interval=INTERVAL, clock=clock)


def rotate(issuer: Issuer, name: str) -> None:
    issuer.keys = {name: ECKey.generate_key("P-256", {"kid": name, "use": "sig", "alg": "ES256"})}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_many_unknown_keys_cost_the_issuer_no_more_than_the_budget(keys: Keys, issuer: Issuer) -> None:
    await keys.find("k1")
    for number in range(50):
        assert await keys.find(f"unknown-{number}") is None
    assert issuer.fetches == AT_ONCE


async def test_many_unknown_keys_at_once_cost_the_issuer_no_more_than_the_budget(keys: Keys, issuer: Issuer) -> None:
    found = await asyncio.gather(*(keys.find(f"unknown-{number}") for number in range(200)))
    assert set(found) == {None}
    assert issuer.fetches <= AT_ONCE


async def test_the_budget_fills_up_by_one_fetch_an_interval(keys: Keys, issuer: Issuer, clock: Clock) -> None:
    for number in range(10):
        await keys.find(f"unknown-{number}")
    for later in range(1, 4):
        clock.now += INTERVAL
        for number in range(10):
            await keys.find(f"unknown-{later}-{number}")
        assert issuer.fetches == AT_ONCE + later
    clock.now += 1_000 * INTERVAL
    for number in range(10):
        await keys.find(f"much-later-{number}")
    assert issuer.fetches == AT_ONCE + 3 + AT_ONCE


async def test_failed_fetches_are_on_the_same_budget(issuer: Issuer, clock: Clock) -> None:
    keys = make_keys(issuer, clock, jwks_url=f"{ISSUER}/jwks")
    await keys.find("k1")
    issuer.away = True
    for number in range(20):
        with pytest.raises(Unavailable):
            await keys.find(f"unknown-{number}")
    assert issuer.fetches == AT_ONCE


async def test_an_issuer_that_never_answered_is_asked_again_each_second(issuer: Issuer, clock: Clock) -> None:
    keys = make_keys(issuer, clock, jwks_url=f"{ISSUER}/jwks")
    issuer.away = True
    for _ in range(20):
        with pytest.raises(Unavailable):
            await keys.find("k1")
    assert issuer.fetches == AT_ONCE
    issuer.away = False
    clock.now += 1
    assert await keys.find("k1") is not None


async def test_each_issuer_has_a_budget_of_its_own() -> None:
    one, other = Issuer(), Issuer()
    async with one.client, other.client:
        first, second = make_keys(one, Clock()), make_keys(other, Clock())
        for number in range(20):
            await first.find(f"unknown-{number}")
        rotate(other, "k2")
        assert await second.find("k2") is not None
    assert (one.fetches, other.fetches) == (AT_ONCE, 1)


async def test_a_key_known_to_be_absent_is_neither_waited_nor_asked_for(
    keys: Keys, issuer: Issuer, clock: Clock
) -> None:
    assert await keys.find("gone") is None
    issuer.answering.clear()
    async with asyncio.timeout(5):
        for _ in range(20):
            assert await keys.find("gone") is None
    assert issuer.fetches == 1
    issuer.answering.set()
    clock.now += INTERVAL
    rotate(issuer, "gone")
    assert await keys.find("gone") is not None


async def test_a_key_that_comes_by_way_of_another_search_is_known_at_once(keys: Keys, issuer: Issuer) -> None:
    assert await keys.find("k2") is None
    rotate(issuer, "k2")
    await keys.find("another")
    assert await keys.find("k2") is not None


async def test_a_rotation_during_a_fetch_is_seen_by_one_more(issuer: Issuer) -> None:
    """The first fetch read the keys before the rotation; who asks after it must not be told that there is none."""
    stale = JSONResponse(KeySet(list(issuer.keys.values())).as_dict(private=False))
    held, fetches = asyncio.Event(), 0

    async def jwks(_request: Request) -> Response:
        nonlocal fetches
        fetches += 1
        if fetches == 1:
            await held.wait()
            return stale
        return JSONResponse(KeySet(list(issuer.keys.values())).as_dict(private=False))

    app = Starlette(routes=[Route("/jwks", jwks)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks")
        keys = Keys(settings, client, max_age=3_600, min_interval=INTERVAL)
        early = asyncio.create_task(keys.find("k1"))
        await until(lambda: fetches == 1)
        rotate(issuer, "k2")
        late = [asyncio.create_task(keys.find("k2")) for _ in range(20)]
        await asyncio.sleep(0)
        held.set()
        async with asyncio.timeout(5):
            assert await early is not None
            assert None not in await asyncio.gather(*late)
    assert fetches == 2


async def test_a_key_unknown_while_its_issuer_is_away_is_no_fault_of_the_token(keys: Keys, issuer: Issuer) -> None:
    await keys.find("k1")
    issuer.away = True
    with pytest.raises(Unavailable):
        await keys.find("k2")
    assert await keys.find("k1") is not None


async def test_an_issuer_that_came_back_is_believed_about_the_keys_it_has_not(
    keys: Keys, issuer: Issuer, clock: Clock
) -> None:
    issuer.away = True
    with pytest.raises(Unavailable):
        await keys.find("k2")
    issuer.away = False
    clock.now += 1
    assert await keys.find("k2") is None


async def test_one_who_goes_away_does_not_take_the_fetch_along(keys: Keys, issuer: Issuer) -> None:
    issuer.answering.clear()
    gone, waiting = asyncio.create_task(keys.find("k1")), asyncio.create_task(keys.find("k1"))
    await until(lambda: issuer.fetches == 1)
    gone.cancel()
    issuer.answering.set()
    assert await waiting is not None
    assert issuer.fetches == 1


async def test_old_keys_are_fetched_anew_once_for_all_who_ask(keys: Keys, issuer: Issuer, clock: Clock) -> None:
    await keys.find("k1")
    clock.now += 3_601
    assert not keys.fresh
    found = await asyncio.gather(*(keys.find("k1") for _ in range(20)))
    assert None not in found
    assert keys.fresh
    assert (issuer.fetches, keys.generation) == (2, 2)


async def test_a_refused_key_never_costs_another_issuer_a_fetch() -> None:
    one = Issuer()
    asked: list[str] = []

    async def refuse(scope: Any, _receive: Any, _send: Any) -> None:
        asked.append(scope["path"])
        raise AssertionError("another issuer was asked")

    other = httpx2.AsyncClient(transport=httpx2.ASGITransport(refuse))
    async with one.client, other:
        identity = Identity(IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),)), {}, client=one.client)
        with pytest.raises(Unauthenticated) as refused:
            await identity.authenticate(one.token(iss="https://other.test"), audience=AUDIENCE)
        assert refused.value.flaw is Flaw.ISSUER
    assert (one.fetches, asked) == (0, [])


async def test_a_token_is_verified_by_the_key_that_it_names_alone(issuer: Issuer) -> None:
    issuer.keys["k2"] = ECKey.generate_key("P-256", {"kid": "k2"})
    identity = Identity(IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),)), {}, client=issuer.client)
    token = issuer.sign(issuer.claims(), header={"kid": "k2"}, key=issuer.keys["k1"])
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.SIGNATURE
