"""Sessions: who has one, and when it ends."""

import hashlib

import pytest

from arborgate.policies.errors import Unavailable
from arborgate.tools.record import Event
from tests.parts.redis import RedisServer
from tests.server.web.world import World

pytestmark = pytest.mark.anyio


async def test_without_a_session_every_page_leads_to_the_login_and_back(world: World) -> None:
    visitor = world.visit()
    for path in ("/proposals", "/proposals/p-1", "/apps"):
        answer = await visitor.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path.replace('/', '%2F')}")


async def test_a_cookie_that_no_session_has_opens_nothing(world: World) -> None:
    visitor = world.visit()
    visitor.client.cookies.set("arborgate", "made-up", domain="127.0.0.1")
    assert (await visitor.get("/proposals")).status_code == 303


async def test_redis_never_holds_the_id_that_opens_a_session(world: World, redis_server: RedisServer) -> None:
    session_id = await world.start_session("april", "approver")
    keys = [bytes(key) for key in redis_server.admin.scan_iter("*")]
    key = f"arborgate:sessions:one:{hashlib.sha256(session_id.encode()).hexdigest()}"
    assert key.encode() in keys
    held = str(redis_server.admin.hgetall(key))
    assert "April" in held
    assert session_id not in held
    assert not any(session_id.encode() in each for each in keys)


async def test_an_idle_session_ends(world: World) -> None:
    visitor = await world.enter("april", "approver")
    world.clock.forward(world.pages.settings.session_idle - 1)
    assert (await visitor.get("/proposals")).status_code == 200
    world.clock.forward(world.pages.settings.session_idle)
    assert (await visitor.get("/proposals")).status_code == 303


async def test_a_busy_session_ends_at_its_limit(world: World) -> None:
    visitor = await world.enter("april", "approver")
    started = world.clock.now
    while world.clock.now - started < world.pages.settings.session_limit - 1_200:
        world.clock.forward(1_200)
        assert (await visitor.get("/proposals")).status_code == 200
    world.clock.forward(1_200)
    assert (await visitor.get("/proposals")).status_code == 303


async def test_a_page_that_refreshes_itself_does_not_keep_a_session_alive(world: World) -> None:
    visitor = await world.enter("april", "approver")
    world.clock.forward(world.pages.settings.session_idle - 1)
    assert (await visitor.client.get("/proposals", headers={"Sec-Fetch-Dest": "empty"})).status_code == 200
    world.clock.forward(1)
    assert (await visitor.get("/proposals")).status_code == 303


async def test_logging_out_ends_the_session_on_the_server(world: World) -> None:
    visitor = await world.enter("april", "approver")
    cookie = visitor.client.cookies["arborgate"]
    answer = await visitor.post("/logout", await visitor.read_form("/proposals"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?ended=1")
    visitor.client.cookies.set("arborgate", cookie, domain="127.0.0.1")
    assert (await visitor.get("/proposals")).status_code == 303
    (ended,) = world.records(Event.SESSION_ENDED)
    assert (ended.caller, ended.channel) == ("https://issuer.test#april", "pages")


async def test_a_request_that_races_with_the_logout_does_not_bring_the_session_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await world.start_session("april", "approver")
    sessions, redis = world.sessions, world.state.redis
    session = await sessions.find(session_id, world.browser)
    assert session is not None
    hgetall = redis.hgetall

    async def read_then_log_out(key: str) -> object:
        found = await hgetall(key)
        racing.undo()
        await sessions.end(session)
        return found

    with monkeypatch.context() as racing:
        racing.setattr(redis, "hgetall", read_then_log_out)
        assert await sessions.find(session_id, world.browser) is None
    assert await sessions.find(session_id, world.browser) is None
    assert len(world.records(Event.SESSION_ENDED)) == 1


async def test_roles_are_those_that_the_settings_give_today(world: World) -> None:
    session = await world.sessions.find(await world.start_session("april", "approver"), world.browser)
    assert session is not None
    assert session.caller.roles == {"approver"}
    nobody = await world.sessions.find(await world.start_session("nora"), world.browser)
    assert nobody is not None
    assert nobody.caller.roles == frozenset()


async def test_without_redis_the_pages_say_that_nobody_can_log_in(world: World, redis_server: RedisServer) -> None:
    visitor = await world.enter("april", "approver")
    redis_server.stop()
    answer = await visitor.get("/proposals")
    assert answer.status_code == 503
    with pytest.raises(Unavailable):
        await world.sessions.find("any", world.browser)
