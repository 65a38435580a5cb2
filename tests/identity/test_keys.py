"""Keys of issuers: rotation without a failed call, and no way for a stranger to make Arborgate hammer a provider."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from arborgate.policies.errors import Unavailable
from arborgate.server.identity.authentication import Identity
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.keys import Keys
from arborgate.server.identity.settings import Algorithm, IdentitySettings, IssuerSettings
from tests.parts.certificates import CertificateAuthority
from tests.server.issuing import AUDIENCE, ISSUER, Issuer, Key

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
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    async with made.client:
        yield made


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


# What the issuer sends.


def serve(routes: dict[str, Callable[[Request], Any]]) -> httpx2.AsyncClient:
    app = Starlette(routes=[Route(path, answer) for path, answer in routes.items()])
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), follow_redirects=True)


def published(*keys: Key) -> dict[str, Any]:
    return dict(KeySet(list(keys)).as_dict(private=False))


EC = ECKey.generate_key("P-256", {"kid": "k1"})


async def test_no_redirect_is_followed() -> None:
    reached: list[str] = []

    async def elsewhere(_request: Request) -> Response:
        reached.append("elsewhere")
        return JSONResponse(published(EC))

    async def jwks(_request: Request) -> Response:
        return RedirectResponse(f"{ISSUER}/elsewhere")

    async with serve({"/jwks": jwks, "/elsewhere": elsewhere}) as client:
        keys = Keys(IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks"), client, max_age=60, min_interval=INTERVAL)
        with pytest.raises(Unavailable):
            await keys.find("k1")
    assert reached == []


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
async def test_an_answer_without_end_is_not_read_to_its_end(compressed: bool) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"keys": ['
        for _ in range(64):
            sent += 64 * 1024
            yield b" " * 64 * 1024

    async def jwks(_request: Request) -> Response:
        return StreamingResponse(endless(), headers={"Content-Encoding": "gzip"} if compressed else {})

    async with serve({"/jwks": jwks}) as client:
        keys = Keys(IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks"), client, max_age=60, min_interval=INTERVAL)
        with pytest.raises(Unavailable):
            await keys.find("k1")


async def test_no_more_than_so_many_keys_count(clock: Clock) -> None:
    def name(number: int) -> dict[str, Any]:
        return {**EC.as_dict(private=False), "kid": f"k{number}"}

    async def jwks(_request: Request) -> Response:
        return JSONResponse({"keys": [name(number) for number in range(200)]})

    async with serve({"/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks")
        keys = Keys(settings, client, max_age=60, min_interval=INTERVAL, clock=clock)
        found = await keys.find("k1")
        assert found is not None
        assert len(found.keys) == 64


def weak() -> dict[str, Any]:
    modulus = RSAKey.generate_key(2048).as_dict(private=False)["n"]
    assert isinstance(modulus, str)
    return {"kty": "RSA", "n": modulus[: 1024 // 6 + 1], "e": "AQAB"}


@pytest.mark.parametrize(
    "key",
    [
        weak(),
        EC.as_dict(private=True),
        {**EC.as_dict(private=False), "use": "enc"},
        {**EC.as_dict(private=False), "key_ops": ["sign"]},
        {**EC.as_dict(private=False), "key_ops": 7},
        OKPKey.generate_key("X25519").as_dict(private=False),
        OKPKey.generate_key("Ed448").as_dict(private=False),
        ECKey.generate_key("P-521").as_dict(private=False),
        {"kty": "oct", "k": "c2VjcmV0LXRoYXQtaXMtcHVibGljLXNlY3JldC10aGF0"},
    ],
    ids=["weak", "private", "encryption", "signs-only", "no-operations", "x25519", "ed448", "p521", "symmetric"],
)
async def test_a_key_that_others_could_sign_with_is_never_used(key: dict[str, Any], clock: Clock) -> None:
    async def jwks(_request: Request) -> Response:
        return JSONResponse({"keys": [{**key, "kid": "bad"}, {**EC.as_dict(private=False), "kid": "good"}]})

    async with serve({"/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_url=f"{ISSUER}/jwks")
        keys = Keys(settings, client, max_age=60, min_interval=INTERVAL, clock=clock)
        assert await keys.find("good") is not None
        assert await keys.find("bad") is None


@pytest.mark.parametrize(
    ("path", "metadata_path"),
    [
        ("", "/.well-known/openid-configuration"),
        ("", "/.well-known/oauth-authorization-server"),
        ("/tenant", "/tenant/.well-known/openid-configuration"),
        ("/tenant", "/.well-known/oauth-authorization-server/tenant"),
        ("/tenant", "/.well-known/openid-configuration/tenant"),
    ],
)
async def test_metadata_is_found_where_either_specification_puts_it(path: str, metadata_path: str) -> None:
    async def metadata(_request: Request) -> Response:
        return JSONResponse({"issuer": f"{ISSUER}{path}", "jwks_uri": f"{ISSUER}/jwks"})

    async def jwks(_request: Request) -> Response:
        return JSONResponse(published(EC))

    async with serve({metadata_path: metadata, "/jwks": jwks}) as client:
        keys = Keys(IssuerSettings(issuer=f"{ISSUER}{path}"), client, max_age=60, min_interval=INTERVAL)
        assert await keys.find("k1") is not None


async def test_the_token_for_the_keys_goes_to_the_issuer_alone_and_is_read_anew(tmp_path: Path, clock: Clock) -> None:
    seen: list[tuple[str, str | None]] = []
    elsewhere = "https://keys.test"

    async def metadata(request: Request) -> Response:
        seen.append((request.url.hostname or "", request.headers.get("Authorization")))
        return JSONResponse({"issuer": ISSUER, "jwks_uri": f"{elsewhere}/jwks"})

    async def jwks(request: Request) -> Response:
        seen.append((request.url.hostname or "", request.headers.get("Authorization")))
        return JSONResponse(published(EC))

    file = tmp_path / "token"
    file.write_text("first\n")
    async with serve({"/.well-known/openid-configuration": metadata, "/jwks": jwks}) as client:
        settings = IssuerSettings(issuer=ISSUER, jwks_token_file=file)
        keys = Keys(settings, client, max_age=60, min_interval=INTERVAL, clock=clock)
        await keys.find("k1")
        assert seen == [("issuer.test", "Bearer first"), ("keys.test", None)]
        seen.clear()
        file.write_text("second\n")
        clock.now += 61
        named = settings.model_copy(update={"jwks_url": f"{elsewhere}/jwks"})
        await Keys(named, client, max_age=60, min_interval=INTERVAL, clock=clock).find("k1")
        await keys.find("k1")
        assert seen == [("keys.test", "Bearer second"), ("issuer.test", "Bearer second"), ("keys.test", None)]


async def test_an_issuer_with_a_ca_of_its_own_is_trusted_by_that_ca_alone(tmp_path: Path) -> None:
    answer = orjson.dumps(published(EC))

    async def serve_keys(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        writer.close()

    (tmp_path / "other").mkdir()
    authority, stranger = CertificateAuthority(tmp_path), CertificateAuthority(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("issuer"))
    async with (
        await asyncio.start_server(serve_keys, "127.0.0.1", 0, ssl=context) as server,
        httpx2.AsyncClient() as web,
    ):
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for ca_file, trusted in ((authority.file, True), (stranger.file, False), (None, False)):
            settings = IssuerSettings(issuer=url, jwks_url=f"{url}/jwks", ca_file=ca_file)
            keys = Keys(settings, web, max_age=60, min_interval=INTERVAL)
            if trusted:
                assert await keys.find("k1") is not None
            else:
                with pytest.raises(Unavailable):
                    await keys.find("k1")


@pytest.mark.parametrize(
    ("algorithm", "key", "accepted"),
    [
        ("ES256", ECKey.generate_key("P-256", {"kid": "k1"}), True),
        ("ES384", ECKey.generate_key("P-384", {"kid": "k1"}), True),
        ("RS256", RSAKey.generate_key(2048, {"kid": "k1"}), True),
        ("PS256", RSAKey.generate_key(2048, {"kid": "k1"}), True),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "k1"}), True),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "k1", "alg": "EdDSA"}), True),
        ("RS256", RSAKey.generate_key(2048, {"kid": "k1", "alg": "PS256"}), False),
        ("PS256", RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256"}), False),
        ("PS256", RSAKey.generate_key(2048, {"kid": "k1", "alg": "RSA-OAEP"}), False),
    ],
)
async def test_a_key_verifies_only_what_it_is_made_for(
    issuer: Issuer, algorithm: Algorithm, key: Key, accepted: bool
) -> None:
    issuer.keys = {"k1": key}
    settings = IssuerSettings(issuer=ISSUER, algorithms=("ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519"))
    identity = Identity(IdentitySettings(issuers=(settings,)), {}, client=issuer.client)
    signer = type(key).import_key({k: v for k, v in key.as_dict(private=True).items() if k != "alg"})
    token = issuer.sign(issuer.claims(), header={"alg": algorithm}, key=signer)
    if accepted:
        assert (await identity.authenticate(token, audience=AUDIENCE)).subject == "ada"
        return
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    assert refused.value.flaw is Flaw.SIGNATURE
