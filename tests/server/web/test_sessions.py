"""Sessions: who has one, and when it ends."""

import hashlib

import pytest
from starlette.datastructures import Headers

from arborgate.policies.errors import Denied, Unavailable
from arborgate.server.identity.denylist import Kind, SharedDenyList
from arborgate.server.identity.settings import DenyListSettings
from arborgate.server.web.browsers import read_browser
from arborgate.server.web.sessions import Draft, Person, Sessions
from arborgate.tools.record import Event
from tests.parts.redis import RedisServer
from tests.server.web.world import AGENT, ROLES, World, hidden_fields

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


async def test_a_session_belongs_to_one_browser(world: World) -> None:
    owner = await world.enter("april", "approver")
    thief = world.visit()
    thief.client.cookies.set("arborgate", owner.client.cookies["arborgate"], domain="127.0.0.1")
    thief.client.headers["user-agent"] = AGENT.replace("X11; Linux x86_64", "Windows NT 10.0; Win64; x64")
    assert (await thief.get("/proposals")).status_code == 303
    assert (await owner.get("/proposals")).status_code == 303
    (ended,) = world.records(Event.SESSION_ENDED)
    assert ended.caller == "https://issuer.test#april"
    assert ended.detail.endswith("another browser presented it (Chrome on Windows)")


async def test_a_browser_may_update_itself_in_mid_session(world: World) -> None:
    visitor = await world.enter("april", "approver")
    visitor.client.headers["user-agent"] = AGENT.replace("Chrome/156.0.0.0", "Chrome/157.1.2.3")
    assert (await visitor.get("/proposals")).status_code == 200


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (AGENT, "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Windows"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/156.0 Safari/537.36 Edg/156.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/19.0 Safari/605.1.15", "Safari on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) CriOS/156.0 Safari/604.1", "Chrome on iOS"),
        ("Mozilla/5.0 (Linux; Android 16; Pixel 9) Chrome/156.0 Mobile Safari/537.36", "Chrome on Android"),
        ("<script>alert(1)</script>", "Another browser"),
        ("", "Another browser"),
    ],
)
def test_a_browser_is_named_in_our_words_alone(agent: str, name: str) -> None:
    assert read_browser(Headers(headers={"user-agent": agent})).name == name


async def test_a_session_of_another_client_of_the_provider_is_none(world: World) -> None:
    visitor = await world.enter("april", "approver")
    world.change(settings=world.pages.settings.model_copy(update={"client_id": "another"}))
    cookies = visitor.client.cookies
    visitor = world.visit()
    visitor.client.cookies = cookies
    assert (await visitor.get("/proposals")).status_code == 303


async def test_the_limit_counts_from_when_the_person_proved_who_they_are(world: World) -> None:
    limit = world.pages.settings.session_limit
    visitor = await world.enter("april", "approver", age=limit - 60)
    assert (await visitor.get("/proposals")).status_code == 200
    world.clock.forward(60)
    assert (await visitor.get("/proposals")).status_code == 303


async def test_a_login_that_asked_nobody_does_not_stretch_the_limit(world: World) -> None:
    limit = world.pages.settings.session_limit
    april = Person(
        issuer="i", subject="april", sub="april", name="April", groups=(), authenticated_at=int(world.clock())
    )
    first, before = await world.sessions.start(april, world.browser, issued_at=world.clock())
    world.clock.forward(limit - 60)
    second, after = await world.sessions.start(april, world.browser, issued_at=world.clock(), replaces=first)
    assert (before.csrf != after.csrf, first != second) == (True, True)
    world.clock.forward(60)
    assert await world.sessions.find(second, world.browser) is None


async def test_two_cookies_of_one_name_open_nothing(world: World) -> None:
    session_id, planted = await world.start_session("april", "approver"), await world.start_session("mallory")
    for cookies in (f"arborgate={planted}; arborgate={session_id}", f"arborgate={session_id}; arborgate={planted}"):
        answer = await world.visit().client.get("/proposals", headers={"Cookie": cookies})
        assert answer.status_code == 303
    twice = {"Cookie": f"other=1; arborgate={session_id}; arborgate={session_id}"}
    assert (await world.visit().client.get("/proposals", headers=twice)).status_code == 200


async def test_people_see_and_end_their_own_sessions(world: World) -> None:
    here, there = await world.enter("april", "approver"), await world.enter("april", "approver")
    abel = await world.enter("abel", "approver")
    page = (await here.get("/sessions")).text
    assert page.count("Chrome on Linux</h2>") == 2
    assert page.count("this one</span>") == 1
    answer = await here.post("/sessions/end", hidden_fields(page.partition("End all others")[0]))
    assert (answer.status_code, answer.headers["location"]) == (303, "/sessions")
    assert [(await one.get("/proposals")).status_code for one in (here, there, abel)] == [200, 303, 200]
    (ended,) = world.records(Event.SESSION_ENDED)
    assert ended.detail.endswith("ended by its owner from another session")


async def test_people_end_all_their_other_sessions_at_once(world: World) -> None:
    april = [await world.enter("april", "approver") for _ in range(3)]
    abel = await world.enter("abel", "approver")
    assert "End all others" not in (await abel.get("/sessions")).text
    await april[1].post("/sessions/end", {**await april[1].read_form("/sessions"), "all": "1"})
    found = [(await one.get("/proposals")).status_code for one in (*april, abel)]
    assert found == [303, 200, 303, 200]


async def test_nobody_ends_the_session_of_somebody_else(world: World) -> None:
    april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
    theirs = await world.sessions.find(abel.client.cookies["arborgate"], world.browser)
    assert theirs is not None
    form = await april.read_form("/sessions")
    await april.post("/sessions/end", {**form, "name": theirs.name})
    assert (await abel.get("/proposals")).status_code == 200


async def test_with_too_many_sessions_the_one_longest_unused_ends(world: World) -> None:
    first = await world.enter("april", "approver")
    world.clock.forward(1)
    others = [await world.enter("april", "approver") for _ in range(20)]
    assert (await first.get("/proposals")).status_code == 303
    assert (await others[0].get("/proposals")).status_code == 200


async def test_what_was_typed_is_kept_for_the_same_person_alone(world: World) -> None:
    april = Person(issuer="i", subject="april", sub="april", name="April", groups=(), authenticated_at=0)
    first, session = await world.sessions.start(april, world.browser, issued_at=0)
    draft = Draft(proposal="p-1", comment="Read it twice.")
    await world.sessions.keep(session, draft)
    second, again = await world.sessions.start(april, world.browser, issued_at=0, replaces=first)
    assert again.draft == draft
    abel = april.model_copy(update={"subject": "abel"})
    _, other = await world.sessions.start(abel, world.browser, issued_at=0, replaces=second)
    assert other.draft is None


async def test_who_is_shut_out_has_no_session_from_then_on(world: World) -> None:
    april, abel = await world.enter("april", "approver"), await world.enter("abel", "approver")
    denied = SharedDenyList(world.state, DenyListSettings(), life=60.0, clock=world.clock)
    await denied.refresh()
    world.change(denied=denied)
    visitors = [world.visit(), world.visit()]
    for visitor, before in zip(visitors, (april, abel), strict=True):
        visitor.client.cookies = before.client.cookies
    assert [(await visitor.get("/proposals")).status_code for visitor in visitors] == [200, 200]
    await denied.deny_person("https://issuer.test#april", reason="laptop stolen")
    assert [(await visitor.get("/proposals")).status_code for visitor in visitors] == [303, 200]
    (ended,) = world.records(Event.SESSION_ENDED)
    assert ended.detail.endswith("its owner has been shut out")


async def test_who_is_shut_out_for_good_starts_no_session(world: World) -> None:
    denied = SharedDenyList(world.state, DenyListSettings(), life=60.0, clock=world.clock)
    await denied.deny(Kind.PERSON, "i#april", new_too=True)
    sessions = Sessions(world.pages.settings, world.state, ROLES, world.audit, clock=world.clock, denied=denied)
    april = Person(issuer="i", subject="april", sub="april", name="April", groups=(), authenticated_at=0)
    with pytest.raises(Denied):
        await sessions.start(april, world.browser, issued_at=world.clock() + 5)
    assert world.records(Event.SESSION_STARTED) == []
