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

from arborgate.policies.errors import ArborgateError, Unavailable
from arborgate.policies.model import Channel
from arborgate.server.identity.callers import caller_of
from arborgate.server.identity.settings import IdentitySettings, IssuerSettings, PagesSettings
from arborgate.server.web.attempts import ATTEMPT_SECONDS, Attempts
from arborgate.server.web.login import Entered, Login, LoginFailed, Wanted, own_page
from arborgate.server.web.provider import Provider
from arborgate.server.web.sessions import Shortfall
from arborgate.tools.record import Event
from tests.parts.oidc import OidcProvider, describe_pages
from tests.parts.redis import RedisServer
from tests.server.issuing import ISSUER
from tests.server.web.hostile import Hostile
from tests.server.web.world import Visitor, World, open_world

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8484"
APPS = Wanted("/apps")


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
    session = await real.sessions.find(visitor.client.cookies["arborgate"], real.browser)
    assert session is not None
    assert abs(session.caller.authenticated_at - real.clock()) < 60


async def test_a_login_replaces_the_session_that_was_there(real: World) -> None:
    visitor = real.visit()
    planted = await real.start_session("mallory", "viewer")
    visitor.client.cookies.set("arborgate", planted, domain="127.0.0.1")
    await walk(visitor, "april")
    cookie = {one.name: one.value for one in visitor.client.cookies.jar}["arborgate"]
    assert cookie != planted
    assert await real.sessions.find(planted, real.browser) is None
    (ended,) = real.records(Event.SESSION_ENDED)
    assert (ended.caller, ended.detail.endswith("replaced by a new login")) == ("https://issuer.test#mallory", True)


async def test_a_callback_works_once_and_only_in_the_browser_that_began(real: World) -> None:
    april, mallory = real.visit(), real.visit()
    begun = await april.get("/login?start=1")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    await mallory.get("/login?start=1")
    for visitor in (mallory, april):
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
    [
        "https://evil.test",
        "//evil.test",
        "/\\evil.test",
        "/login",
        "/logout",
        "/proposals/../login?x",
        "/proposals/../login",
        "/proposals/./login",
        "javascript:alert(1)",
    ],
)
def test_a_login_leads_nowhere_but_to_our_pages(path: str) -> None:
    assert own_page(path) == "/proposals"


def test_a_login_leads_back_to_one_proposal() -> None:
    assert own_page("/proposals/p-dc0l4eqjog") == "/proposals/p-dc0l4eqjog"


async def come_back(world: World, hostile: Hostile, wanted: Wanted = APPS, **query: str) -> Entered:
    """Begins a login and finishes it with what the provider answers."""
    login, held, state = await begin(world, hostile, wanted)
    return await login.finish(held, {"state": state, "code": "c", **query})


async def begin(
    world: World, hostile: Hostile, wanted: Wanted = APPS, issuer: IssuerSettings | None = None
) -> tuple[Login, str, str]:
    """A login under way at the provider: with the browser's cookie, and its `state`."""
    settings = PagesSettings(issuer=ISSUER)
    provider = Provider(settings, hostile.client, clock=world.clock)
    login = Login(
        settings,
        URL,
        provider,
        Attempts(world.state, clock=world.clock),
        issuer=issuer or IssuerSettings(issuer=settings.issuer),
        clock=world.clock,
    )
    url, held = await login.begin("", wanted)
    hostile.asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    return login, held, hostile.asked["state"]


async def test_a_good_id_token_names_the_person(world: World, hostile: Hostile) -> None:
    entered = await come_back(world, hostile)
    assert (entered.person.subject, entered.person.groups, entered.next) == ("ada", ("arborgate-developers",), "/apps")


async def test_whoever_asks_through_an_agent_is_the_same_person_on_the_pages(world: World, hostile: Hostile) -> None:
    """Where the provider has another `sub` for each client, as Entra does, nobody must approve what they asked for."""
    issuer = IssuerSettings(issuer=ISSUER, subject_claim="oid", group_prefix="corp:")
    hostile.changes = {"sub": "ada-at-the-pages", "oid": "ada-in-the-tenant"}
    login, held, state = await begin(world, hostile, issuer=issuer)
    person = (await login.finish(held, {"state": state, "code": "c"})).person
    claims = hostile.claims(sub="ada-at-the-copilot", oid="ada-in-the-tenant")
    caller = caller_of(claims, issuer, {}, Channel.MCP)
    assert (person.issuer, person.subject, person.sub) == (caller.issuer, caller.subject, "ada-at-the-pages")
    assert frozenset(person.groups) == caller.groups == {"corp:arborgate-developers"}


def test_a_login_to_the_pages_is_read_as_the_tokens_of_its_issuer() -> None:
    pages = PagesSettings(issuer=ISSUER)
    known = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER, subject_claim="oid", groups_claim="teams"),))
    assert known.pages_issuer(pages) is known.issuers[0]
    apart = known.pages_issuer(PagesSettings(issuer=ISSUER, groups_claim="roles"))
    assert (apart.subject_claim, apart.groups_claim) == ("oid", "roles")
    assert IdentitySettings().pages_issuer(pages) == IssuerSettings(issuer=ISSUER)


async def test_a_login_that_another_browser_began_is_refused(world: World, hostile: Hostile) -> None:
    login, _, state = await begin(world, hostile)
    _, another, _ = await begin(world, hostile)
    for held in (another, "", "made.up", "eyJhbGciOiJub25lIn0.W10."):
        with pytest.raises(LoginFailed):
            await login.finish(held, {"state": state, "code": "c"})


async def test_a_login_is_finished_once(world: World, hostile: Hostile) -> None:
    login, held, state = await begin(world, hostile)
    await login.finish(held, {"state": state, "code": "c"})
    with pytest.raises(LoginFailed):
        await login.finish(held, {"state": state, "code": "c"})


async def test_a_login_takes_no_longer_than_ten_minutes(world: World, hostile: Hostile) -> None:
    login, held, state = await begin(world, hostile)
    world.clock.forward(ATTEMPT_SECONDS)
    with pytest.raises(LoginFailed) as refused:
        await login.finish(held, {"state": state, "code": "c"})
    assert refused.value.detail == "the state belongs to no login of this browser"


async def test_two_tabs_of_a_browser_can_log_in_at_once(world: World, hostile: Hostile) -> None:
    login, held, first = await begin(world, hostile)
    nonce = hostile.asked["nonce"]
    url, held = await login.begin(held, Wanted("/proposals"))
    second = parse_qs(urlsplit(url).query)
    hostile.asked["nonce"] = nonce
    entered = await login.finish(held, {"state": first, "code": "c"})
    hostile.asked["nonce"] = second["nonce"][0]
    assert (await login.finish(entered.held, {"state": second["state"][0], "code": "c"})).held == ""


async def test_a_cookie_of_logins_stays_small(world: World, hostile: Hostile) -> None:
    login, held, _ = await begin(world, hostile)
    for _ in range(20):
        wanted = Wanted("/proposals/p-dc0l4eqjog0c7c9e", again=True, acr_values=("urn:example:acr:mfa",))
        held = (await login.begin(held, wanted))[1]
    assert len(held) < 3_000


async def test_a_stranger_who_begins_logins_leaves_nothing_in_redis(real: World, redis_server: RedisServer) -> None:
    for _ in range(20):
        await real.visit().get("/login?start=1&next=/apps")
    assert list(redis_server.admin.scan_iter("*login*")) == [b"arborgate:login:key"]


async def test_another_site_begins_no_login(real: World) -> None:
    for site in ("cross-site", "same-site"):
        answer = await real.visit().client.get("/login?start=1", headers={"Sec-Fetch-Site": site})
        assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
        assert "Log in to approve" in answer.text
    assert (await real.visit().client.get("/login?start=1", headers={"Sec-Fetch-Site": "none"})).status_code == 303


async def test_what_is_wanted_of_a_login_is_asked_of_the_provider(world: World, hostile: Hostile) -> None:
    await begin(world, hostile, Wanted("/apps", again=True, max_age=300, acr_values=("strong", "stronger")))
    asked = {name: hostile.asked[name] for name in ("prompt", "max_age", "acr_values")}
    assert asked == {"prompt": "login", "max_age": "300", "acr_values": "strong stronger"}


@pytest.mark.parametrize(
    ("given", "shortfall"),
    [
        ({"acr": "strong"}, None),
        ({"acr": "weak"}, Shortfall.STRENGTH),
        ({"acr": None}, Shortfall.STRENGTH),
        ({"acr": ["strong"]}, Shortfall.STRENGTH),
        ({"acr": "strong", "auth_time": -60}, Shortfall.AGE),
        ({"acr": "strong", "auth_time": None}, Shortfall.AGE),
    ],
)
async def test_what_the_provider_did_not_give_is_known(
    world: World, hostile: Hostile, given: dict[str, Any], shortfall: Shortfall | None
) -> None:
    at = given.get("auth_time", 0)
    hostile.changes = {**given, "auth_time": None if at is None else int(world.clock()) + at}
    entered = await come_back(world, hostile, Wanted("/apps", again=True, acr_values=("strong",)))
    assert entered.shortfall is shortfall
    assert entered.person.acr == (given["acr"] if isinstance(given["acr"], str) else "")


@pytest.mark.parametrize("seconds", [28_800 + 60, -60])
async def test_a_login_older_than_a_session_may_be_or_from_the_future_is_refused(
    world: World, hostile: Hostile, seconds: int
) -> None:
    hostile.changes = {"auth_time": int(world.clock()) - seconds}
    with pytest.raises(LoginFailed):
        await come_back(world, hostile)


async def test_a_provider_that_cannot_do_the_wanted_login_is_named_as_the_reason(
    world: World, hostile: Hostile
) -> None:
    login, held, state = await begin(world, hostile)
    with pytest.raises(LoginFailed, match="can't give the kind of login"):
        await login.finish(held, {"state": state, "error": "unmet_authentication_requirements"})


@pytest.mark.parametrize("place", ["http://login.test/end", "javascript:alert(1)", "data:text/html,x"])
async def test_an_endpoint_that_cannot_be_trusted_is_not_used(world: World, hostile: Hostile, place: str) -> None:
    hostile.ends = {"end_session_endpoint": place}
    with pytest.raises(Unavailable):
        await begin(world, hostile)


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


@pytest.mark.parametrize(
    "header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES512"}, {"kid": "unknown"}, {"typ": "logout+jwt"}]
)
async def test_an_id_token_with_a_wrong_header_is_refused(
    world: World, hostile: Hostile, header: dict[str, Any]
) -> None:
    login, held, state = await begin(world, hostile)
    claims = hostile.claims(aud="arborgate-pages", nonce=hostile.asked["nonce"], client_id=None)
    parts = ({"alg": "ES256", "kid": "k1", **header}, claims)
    encoded = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in parts]
    signature = "" if header.get("alg") == "none" else "c2lnbmF0dXJl"
    hostile.answer = {"id_token": ".".join([*encoded, signature])}
    with pytest.raises(LoginFailed):
        await login.finish(held, {"state": state, "code": "c"})


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
        await begin(world, hostile)


@pytest.mark.parametrize(
    ("status", "answer"), [(400, {"error": "invalid_grant"}), (200, {"access_token": "x"}), (503, {"error": "busy"})]
)
async def test_a_token_endpoint_that_gives_no_id_token_logs_nobody_in(
    world: World, hostile: Hostile, status: int, answer: dict[str, Any]
) -> None:
    hostile.status, hostile.answer = status, answer
    with pytest.raises(ArborgateError):
        await come_back(world, hostile)
