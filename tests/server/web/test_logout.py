"""Logout: by the provider's back channel, by the button, and the way to the provider's own."""

import base64
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import orjson
import pytest
from joserfc.jwk import ECKey, OctKey

from arborgate.server.web.guard import FORM_LIMIT
from arborgate.tools.record import Event
from tests.parts.redis import RedisServer
from tests.server.issuing import ISSUER
from tests.server.web.hostile import LOGOUT_EVENT, Hostile
from tests.server.web.world import World, open_world

pytestmark = pytest.mark.anyio

PATH = "/logout/back-channel"


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str, hostile: Hostile) -> AsyncIterator[World]:
    """Pages whose people log in at the provider that is not to be trusted."""
    async with open_world(tmp_path / "record", redis_url, issuer=ISSUER) as world:
        world.change(client=hostile.client)
        yield world


async def tell(world: World, token: str) -> httpx2.Response:
    """What the provider sends, with none of a browser's headers."""
    return await world.visit().client.post(PATH, data={"logout_token": token})


async def is_open(world: World, session_id: str) -> bool:
    return await world.sessions.find(session_id, world.browser) is not None


async def test_a_logout_at_the_provider_ends_the_session_that_came_from_there(desk: World, hostile: Hostile) -> None:
    ended = await desk.start_session("ada", "approver", sid="s-1")
    other = await desk.start_session("ada", "approver", sid="s-2")
    answer = await tell(desk, hostile.logout_token())
    assert (answer.status_code, answer.headers["cache-control"], answer.content) == (200, "no-store", b"")
    assert [await is_open(desk, one) for one in (ended, other)] == [False, True]
    (record,) = desk.records(Event.SESSION_ENDED)
    assert (record.caller, record.outcome) == (f"{ISSUER}#ada", "ok")
    assert record.detail.endswith("logged out at the provider")


async def test_without_a_session_named_all_of_the_person_end(desk: World, hostile: Hostile) -> None:
    mine = [await desk.start_session("ada", "approver", sid=sid) for sid in ("s-1", "s-2", "")]
    other = await desk.start_session("bob", "approver", sid="s-3")
    assert (await tell(desk, hostile.logout_token(drop="sid"))).status_code == 200
    assert [await is_open(desk, one) for one in (*mine, other)] == [False, False, False, True]


async def test_without_a_person_named_the_session_ends(desk: World, hostile: Hostile) -> None:
    mine, other = [await desk.start_session("ada", "approver", sid=sid) for sid in ("s-1", "s-2")]
    assert (await tell(desk, hostile.logout_token(drop="sub"))).status_code == 200
    assert [await is_open(desk, one) for one in (mine, other)] == [False, True]


async def test_a_session_of_somebody_else_is_not_ended_by_naming_it(desk: World, hostile: Hostile) -> None:
    other = await desk.start_session("bob", "approver", sid="s-1")
    assert (await tell(desk, hostile.logout_token())).status_code == 200
    assert await is_open(desk, other)


async def test_a_session_whose_origin_was_never_told_ends_with_its_person(desk: World, hostile: Hostile) -> None:
    untold = await desk.start_session("ada", "approver")
    await tell(desk, hostile.logout_token())
    assert not await is_open(desk, untold)


@pytest.mark.parametrize("kind", ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt", None])
async def test_the_type_of_a_logout_token_may_be_left_out(desk: World, hostile: Hostile, kind: str | None) -> None:
    assert (await tell(desk, hostile.logout_token(header={"typ": kind}))).status_code == 200


async def test_a_logout_token_is_good_for_once(desk: World, hostile: Hostile) -> None:
    token = hostile.logout_token()
    assert (await tell(desk, token)).status_code == 200
    desk.clock.forward(60)
    later = await desk.start_session("ada", "approver", sid="s-1")
    answer = await tell(desk, token)
    assert (answer.status_code, answer.headers["cache-control"]) == (400, "no-store")
    assert answer.json()["error"] == "invalid_request"
    assert await is_open(desk, later)


async def test_a_logout_that_failed_can_be_sent_again(desk: World, hostile: Hostile, redis_server: RedisServer) -> None:
    session_id = await desk.start_session("ada", "approver", sid="s-1")
    token = hostile.logout_token()
    redis_server.pause()
    answer = await tell(desk, token)
    assert (answer.status_code, answer.json()["error"]) == (400, "temporarily_unavailable")
    redis_server.resume()
    assert (await tell(desk, token)).status_code == 200
    assert not await is_open(desk, session_id)


async def test_a_login_that_was_under_way_at_the_logout_opens_nothing(desk: World, hostile: Hostile) -> None:
    await tell(desk, hostile.logout_token(iat=int(time.time()) + 20))
    visitor = desk.visit()
    begun = await visitor.get("/login?start=1")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    hostile.asked, hostile.changes = asked, {"sid": "s-1"}
    late = await visitor.get(f"/login/callback?state={asked['state']}&code=c")
    assert late.status_code == 403
    assert "You logged out at the identity provider meanwhile" in late.text
    assert "set-cookie" not in late.headers


async def test_whoever_has_to_know_is_told_who_logged_out(desk: World, hostile: Hostile) -> None:
    told: list[tuple[str, str]] = []

    async def hear(issuer: str, subject: str) -> None:
        told.append((issuer, subject))

    desk.change(on_logout=hear)
    await desk.start_session("ada", "approver", sid="s-1")
    await tell(desk, hostile.logout_token(drop="sub"))
    await tell(desk, hostile.logout_token())
    await tell(desk, hostile.logout_token(aud="another"))
    assert told == [(ISSUER, "ada"), (ISSUER, "ada")]


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def _unsigned(hostile: Hostile) -> str:
    return f"{_part({'alg': 'none', 'typ': 'logout+jwt'})}.{hostile.logout_token().split('.')[1]}."


def _by_public_key(hostile: Hostile) -> str:
    public = hostile.keys["k1"].as_dict(private=False)
    return hostile.logout_token(header={"alg": "HS256"}, key=OctKey.import_key(orjson.dumps(public)))


def _with_own_key(hostile: Hostile) -> str:
    own = ECKey.generate_key("P-256", {"kid": "k1"})
    return hostile.logout_token(header={"jwk": own.as_dict(private=False)}, key=own)


def _changed(hostile: Hostile) -> str:
    header, _, signature = hostile.logout_token(sub="bob").split(".")
    return f"{header}.{hostile.logout_token().split('.')[1]}.{signature}"


def _twice_the_subject(hostile: Hostile) -> str:
    header, claims, signature = hostile.logout_token().split(".")
    text = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).replace(
        b'"sub":"ada"', b'"sub":"bob","sub":"ada"'
    )
    return f"{header}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.{signature}"


NOW = int(time.time())
ATTACKS: dict[str, Callable[[Hostile], str]] = {
    "nothing": lambda _: "",
    "no token": lambda _: "a.b.c",
    "unsigned": _unsigned,
    "signed with the public key as a secret": _by_public_key,
    "brings its own key": _with_own_key,
    "names a place for its key": lambda it: it.logout_token(header={"jku": "https://evil.test/jwks"}),
    "by a key of the same name": lambda it: it.logout_token(key=ECKey.generate_key("P-256", {"kid": "k1"})),
    "by a key that nobody knows": lambda it: it.logout_token(header={"kid": "../k1"}),
    "claims of another token": _changed,
    "says its subject twice": _twice_the_subject,
    "critical extension": lambda it: it.logout_token(header={"crit": ["kid"]}),
    "typed as an access token": lambda it: it.logout_token(header={"typ": "at+jwt"}),
    "typed as any JWT": lambda it: it.logout_token(header={"typ": "JWT"}),
    "of another issuer": lambda it: it.logout_token(iss="https://evil.test"),
    "of an issuer that looks alike": lambda it: it.logout_token(iss=f"{ISSUER}/"),
    "for another client": lambda it: it.logout_token(aud="ide-copilot"),
    "for another client too": lambda it: it.logout_token(aud=["arborgate-pages", "ide-copilot"]),
    "for nobody": lambda it: it.logout_token(drop="aud"),
    "expired": lambda it: it.logout_token(exp=NOW - 60),
    "never expires": lambda it: it.logout_token(drop="exp"),
    "expiry as text": lambda it: it.logout_token(exp="9999999999"),
    "old": lambda it: it.logout_token(iat=NOW - 3_600),
    "from the future": lambda it: it.logout_token(iat=NOW + 3_600),
    "of no time": lambda it: it.logout_token(drop="iat"),
    "issued at true": lambda it: it.logout_token(iat=True),
    "not yet valid": lambda it: it.logout_token(nbf=NOW + 3_600),
    "without an id": lambda it: it.logout_token(drop="jti"),
    "id is a number": lambda it: it.logout_token(jti=7),
    "id is empty": lambda it: it.logout_token(jti=""),
    "an ID token": lambda it: it.logout_token(nonce="n"),
    "an ID token with an empty nonce": lambda it: it.logout_token(nonce=None),
    "without events": lambda it: it.logout_token(drop="events"),
    "events as a list": lambda it: it.logout_token(events=[LOGOUT_EVENT]),
    "another event": lambda it: it.logout_token(events={f"{LOGOUT_EVENT}s": {}}),
    "event without an object": lambda it: it.logout_token(events={LOGOUT_EVENT: True}),
    "names nobody": lambda it: it.logout_token(drop="sub sid"),
    "session is empty": lambda it: it.logout_token(drop="sub", sid=""),
    "subject is a list": lambda it: it.logout_token(sub=["ada"]),
    "session is an object": lambda it: it.logout_token(sid={"s-1": 1}),
    "too long": lambda it: it.logout_token(padding="x" * 20_000),
    "nested": lambda it: it.logout_token(header={"cty": "JWT"}),
    "encrypted": lambda it: it.logout_token() + ".e.f",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_forged_logout_token_ends_nothing(desk: World, hostile: Hostile, attack: str) -> None:
    session_id = await desk.start_session("ada", "approver", sid="s-1")
    answer = await tell(desk, ATTACKS[attack](hostile))
    assert (answer.status_code, answer.headers["cache-control"]) == (400, "no-store")
    assert answer.json()["error"] == "invalid_request"
    assert await is_open(desk, session_id)
    (refused,) = desk.records(Event.CALLER_REJECTED)
    assert (refused.resource, refused.channel, refused.outcome) == (PATH, "pages", "denied")
    assert hostile.fetches <= 2


async def test_a_token_of_another_issuer_asks_nobody_anything(desk: World, hostile: Hostile) -> None:
    for number in range(20):
        await tell(desk, hostile.logout_token(iss="https://evil.test", header={"kid": f"k-{number}"}))
    assert (hostile.fetches, hostile.described) == (0, 0)


async def test_a_flood_of_forgeries_fills_no_record_and_no_redis(
    desk: World, hostile: Hostile, redis_server: RedisServer
) -> None:
    began = time.monotonic()
    for number in range(60):
        await tell(desk, hostile.logout_token(key=ECKey.generate_key("P-256", {"kid": "k1"}), jti=f"j-{number}"))
    seconds = int(time.monotonic() - began) + 2  # a second begun counts as one
    assert len(desk.records(Event.CALLER_REJECTED)) <= 10 * seconds
    assert list(redis_server.admin.scan_iter("*logout*")) == []


async def test_only_a_small_form_is_read(desk: World, hostile: Hostile) -> None:
    client, token = desk.visit().client, hostile.logout_token()
    assert (await client.get(f"{PATH}?logout_token={token}")).status_code == 405
    assert (await client.post(f"{PATH}?logout_token={token}")).status_code == 400
    assert (await client.post(PATH, json={"logout_token": token})).status_code == 400
    assert (await client.post(PATH, data={"logout_token": token, "more": "x" * FORM_LIMIT})).status_code == 400


async def test_after_the_logout_the_page_offers_the_one_at_the_provider(desk: World, hostile: Hostile) -> None:
    hostile.ends = {"end_session_endpoint": f"{ISSUER}/end?tenant=7"}
    visitor = await desk.enter("ada", "approver")
    answer = await visitor.post("/logout", await visitor.read_form("/sessions"))
    page = (await visitor.get(answer.headers["location"])).text
    assert "Your session here has ended" in page
    (link,) = [part.partition('"')[0] for part in page.split('href="') if part.startswith(ISSUER)]
    asked = parse_qs(urlsplit(link.replace("&amp;", "&")).query)
    assert asked == {
        "tenant": ["7"],
        "client_id": ["arborgate-pages"],
        "post_logout_redirect_uri": [f"{desk.url}/logout/done"],
    }
    assert "has led you back" in (await visitor.get("/logout/done")).text


async def test_a_provider_without_a_logout_is_not_linked_to(desk: World, hostile: Hostile) -> None:
    assert "Log out there too" not in (await desk.visit().get("/login?ended=1")).text
    hostile.named = "https://evil.test"
    desk.change(client=hostile.client)
    assert (await desk.visit().get("/login?ended=1")).status_code == 200


async def test_nobody_is_told_that_they_are_logged_out_while_they_are_not(desk: World) -> None:
    visitor = await desk.enter("ada", "approver")
    for path in ("/login?ended=1", "/logout/done", "/login"):
        page = (await visitor.get(path)).text
        assert "You are logged in" in page
        assert "logged out" not in page


async def test_another_site_logs_nobody_out(desk: World) -> None:
    visitor = await desk.enter("ada", "approver")
    form = await visitor.read_form("/sessions")
    assert (await visitor.get("/logout")).status_code == 405
    assert (await visitor.post("/logout", {"csrf": ""})).status_code == 403
    assert (await visitor.post("/logout", form, Origin="https://evil.test")).status_code == 403
    assert (await visitor.post("/sessions/end", {"all": "1"})).status_code == 403
    assert (await visitor.get("/sessions")).status_code == 200
