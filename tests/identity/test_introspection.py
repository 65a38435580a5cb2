"""Opaque tokens: believed only as their own issuer says, never for long, and asked about seldom."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from arborgate.policies.errors import BadConfiguration, Unavailable
from arborgate.policies.model import Binding
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.introspection import Introspection
from arborgate.server.identity.settings import IdentitySettings, IntrospectionSettings, IssuerSettings
from tests.parts.oidc import INTROSPECTOR, OidcProvider
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio

TOKEN = "opaque-token-of-ada"
ROLES = {"developer": ("arborgate-developers",)}
MOST_UNKNOWN = 5


class Desk:
    """An introspection endpoint that answers whatever a test tells it to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Any = self.describe()
        self.status = 200
        self.moved = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.now = time.time()
        routes = [
            Route("/.well-known/openid-configuration", self._metadata),
            Route("/ask", self._ask, methods=["POST"]),
        ]
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(Starlette(routes=routes)), follow_redirects=True
        )

    def describe(self, **changes: Any) -> dict[str, Any]:
        told = {
            "active": True,
            "iss": ISSUER,
            "sub": "ada",
            "aud": AUDIENCE,
            "client_id": "ide",
            "exp": int(time.time()) + 3600,
            "iat": int(time.time()),
            "token_type": "Bearer",
            "groups": ["arborgate-developers"],
        }
        return {name: value for name, value in {**told, **changes}.items() if value is not None}

    async def _metadata(self, _request: Request) -> Response:
        return JSONResponse({"issuer": ISSUER, "introspection_endpoint": f"{ISSUER}/ask"})

    async def _ask(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.asked.append((request.headers.get("Authorization", ""), form))
        await self.answering.wait()
        if self.moved:
            return RedirectResponse(f"{ISSUER}/ask")
        return JSONResponse(self.answer, self.status)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    async with made.client:
        yield made


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    return file


@pytest.fixture
def introspection(desk: Desk, secret_file: Path) -> Introspection:
    return make(desk, secret_file)


def make(desk: Desk, secret_file: Path, **changes: Any) -> Introspection:
    settings = IntrospectionSettings.model_validate(
        {"client_id": "arborgate", "client_secret_file": secret_file, "most_unknown": MOST_UNKNOWN, **changes}
    )
    issuer = IssuerSettings(issuer=ISSUER, introspection=settings)
    return Introspection(issuer, settings, desk.client, clock=lambda: desk.now)


def make_identity(desk: Desk, introspection: Introspection) -> Identity:
    return Identity(
        IdentitySettings(issuers=(introspection.issuer,)),
        ROLES,
        client=desk.client,
        safeguards=Safeguards(introspectors=(introspection,)),
        clock=lambda: desk.now,
    )


async def refuse(identity: Identity, token: str = TOKEN) -> Flaw:
    with pytest.raises(Unauthenticated) as refused:
        await identity.authenticate(token, audience=AUDIENCE)
    return refused.value.flaw


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_an_active_token_names_its_caller(desk: Desk, introspection: Introspection) -> None:
    caller = await make_identity(desk, introspection).authenticate(TOKEN, audience=AUDIENCE)
    assert (caller.key, caller.agent, caller.itself) == (f"{ISSUER}#ada", "ide", False)
    assert caller.roles == {"developer"}
    basic = base64.b64encode(b"arborgate:s3cret").decode()
    assert desk.asked == [(f"Basic {basic}", {"token": TOKEN, "token_type_hint": "access_token"})]


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"active": False}, Flaw.INACTIVE),
        ({"active": "true"}, Flaw.INACTIVE),
        ({"active": 1}, Flaw.INACTIVE),
        ({"active": None}, Flaw.INACTIVE),
        ({"iss": "https://other.test"}, Flaw.ISSUER),
        ({"iss": f"{ISSUER}/"}, Flaw.ISSUER),
        ({"exp": None}, Flaw.CLAIMS),
        ({"exp": "9999999999"}, Flaw.CLAIMS),
        ({"exp": True}, Flaw.CLAIMS),
        ({"exp": int(time.time()) - 600}, Flaw.EXPIRED),
        ({"exp": int(time.time()) + 10 * 86_400}, Flaw.LIFETIME),
        ({"nbf": int(time.time()) + 600}, Flaw.NOT_YET),
        ({"aud": None}, Flaw.AUDIENCE),
        ({"aud": "https://other.test"}, Flaw.AUDIENCE),
        ({"token_type": "refresh_token"}, Flaw.CLAIMS),
        ({"token_type": ["Bearer"]}, Flaw.CLAIMS),
        ({"token_use": "refresh_token"}, Flaw.CLAIMS),
        ({"token_type": "DPoP"}, Flaw.CLAIMS),
        ({"token_type": "DPoP", "cnf": {"x5t#S256": "a"}}, Flaw.CLAIMS),
        ({"token_type": "DPoP", "cnf": {"jkt": "a"}}, Flaw.DOWNGRADE),
        ({"cnf": {"jkt": "a"}}, Flaw.DOWNGRADE),
        ({"cnf": {"kid": "a"}}, Flaw.CLAIMS),
        ({"sub": None, "username": "ada"}, Flaw.CLAIMS),
        ({"sub": None, "client_id": None}, Flaw.CLAIMS),
    ],
    ids=str,
)
async def test_an_answer_that_lacks_something_opens_nothing(
    desk: Desk, introspection: Introspection, changes: dict[str, Any], flaw: Flaw
) -> None:
    desk.answer = desk.describe(**changes)
    assert await refuse(make_identity(desk, introspection)) is flaw


async def test_a_token_without_an_end_is_refused_by_whoever_asks(desk: Desk, introspection: Introspection) -> None:
    desk.answer = desk.describe(exp=None)
    with pytest.raises(Unauthenticated):
        await introspection.ask(TOKEN)


async def test_an_app_without_a_person_is_itself(desk: Desk, introspection: Introspection) -> None:
    desk.answer = desk.describe(sub=None)
    caller = await make_identity(desk, introspection).authenticate(TOKEN, audience=AUDIENCE)
    assert (caller.subject, caller.itself) == ("ide", True)


async def test_an_answer_without_iss_is_its_own_issuers(desk: Desk, introspection: Introspection) -> None:
    desk.answer = desk.describe(iss=None)
    caller = await make_identity(desk, introspection).authenticate(TOKEN, audience=AUDIENCE)
    assert (caller.issuer, caller.binding) == (ISSUER, Binding.BEARER)


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 401}, {"moved": True}, {"answer": []}, {"answer": "active"}], ids=str
)
async def test_an_issuer_that_does_not_answer_lets_nobody_in(
    desk: Desk, introspection: Introspection, fault: dict[str, Any]
) -> None:
    for name, value in fault.items():
        setattr(desk, name, value)
    with pytest.raises(Unavailable):
        await make_identity(desk, introspection).authenticate(TOKEN, audience=AUDIENCE)


async def test_an_issuer_that_does_not_answer_is_left_alone_for_a_second(
    desk: Desk, introspection: Introspection
) -> None:
    desk.status = 503
    for number in range(3):
        with pytest.raises(Unavailable):
            await introspection.ask(f"token-{number}")
    assert len(desk.asked) == 1
    desk.status, desk.now = 200, desk.now + 1
    assert (await introspection.ask(TOKEN))[0]["sub"] == "ada"


async def test_a_token_is_asked_about_once_while_its_answer_is_believed(
    desk: Desk, introspection: Introspection
) -> None:
    identity = make_identity(desk, introspection)
    for _ in range(10):
        await identity.authenticate(TOKEN, audience=AUDIENCE)
    assert len(desk.asked) == 1
    desk.now += 59
    await identity.authenticate(TOKEN, audience=AUDIENCE)
    assert len(desk.asked) == 1
    desk.now += 2
    await identity.authenticate(TOKEN, audience=AUDIENCE)
    assert len(desk.asked) == 2


async def test_a_revocation_is_noticed_within_the_age_of_an_answer(desk: Desk, introspection: Introspection) -> None:
    identity = make_identity(desk, introspection)
    await identity.authenticate(TOKEN, audience=AUDIENCE)
    desk.answer = {"active": False}
    desk.now += 60
    assert await refuse(identity) is Flaw.INACTIVE


async def test_an_answer_is_believed_no_longer_than_the_token_lives(desk: Desk, introspection: Introspection) -> None:
    ends = int(desk.now) + 5
    desk.answer = desk.describe(exp=ends)
    _, until = await introspection.ask(TOKEN)
    assert until == ends
    desk.now = ends
    desk.answer = {"active": False}
    assert await refuse(make_identity(desk, introspection)) is Flaw.INACTIVE


async def test_a_slow_answer_is_believed_from_when_it_was_asked_for(desk: Desk, introspection: Introspection) -> None:
    desk.answering.clear()
    began = desk.now
    asking = asyncio.create_task(introspection.ask(TOKEN))
    await until(lambda: bool(desk.asked))
    desk.now += 30
    desk.answering.set()
    assert (await asking)[1] == began + 60


async def test_a_refused_token_is_not_asked_about_again_at_once(desk: Desk, introspection: Introspection) -> None:
    desk.answer = {"active": False}
    identity = make_identity(desk, introspection)
    for _ in range(20):
        assert await refuse(identity) is Flaw.INACTIVE
    assert len(desk.asked) == 1
    desk.now += 5
    desk.answer = desk.describe()
    assert (await identity.authenticate(TOKEN, audience=AUDIENCE)).subject == "ada"


async def test_many_calls_with_one_new_token_are_one_question(desk: Desk, introspection: Introspection) -> None:
    identity = make_identity(desk, introspection)
    desk.answering.clear()
    calls = [asyncio.create_task(identity.authenticate(TOKEN, audience=AUDIENCE)) for _ in range(20)]
    await until(lambda: bool(desk.asked))
    calls[0].cancel()
    desk.answering.set()
    assert {caller.subject for caller in await asyncio.gather(*calls[1:])} == {"ada"}
    assert len(desk.asked) == 1


async def test_a_flood_of_unknown_tokens_is_answered_without_the_issuer(
    desk: Desk, introspection: Introspection
) -> None:
    await introspection.ask(TOKEN)
    desk.answer = {"active": False}
    outcomes = await asyncio.gather(*(introspection.ask(f"token-{n}") for n in range(50)), return_exceptions=True)
    assert {type(one) for one in outcomes} == {Unauthenticated, Unavailable}
    assert len(desk.asked) == MOST_UNKNOWN


async def test_a_flood_of_unknown_tokens_locks_nobody_out_who_is_known(
    desk: Desk, introspection: Introspection
) -> None:
    identity = make_identity(desk, introspection)
    await identity.authenticate(TOKEN, audience=AUDIENCE)
    desk.now += 61
    await asyncio.gather(*(introspection.ask(f"token-{number}") for number in range(50)), return_exceptions=True)
    assert (await identity.authenticate(TOKEN, audience=AUDIENCE)).subject == "ada"


async def test_an_opaque_token_is_shown_to_its_own_issuer_alone(secret_file: Path) -> None:
    one, other = Desk(), Desk()
    async with one.client, other.client:
        first, second = make(one, secret_file, prefix="one_"), make(other, secret_file, prefix="two_")
        identity = Identity(
            IdentitySettings(issuers=(first.issuer,)),
            ROLES,
            client=one.client,
            safeguards=Safeguards(introspectors=(first, second)),
        )
        await identity.authenticate("one_token", audience=AUDIENCE)
        assert (len(one.asked), len(other.asked)) == (1, 0)
        assert await refuse(identity, "three_token") is Flaw.FORMAT
        assert (len(one.asked), len(other.asked)) == (1, 0)


async def test_what_looks_like_a_jwt_is_shown_to_nobody(desk: Desk, introspection: Introspection) -> None:
    jwt = Issuer()
    async with jwt.client:
        for token in (jwt.token(), jwt.token(iss="https://other.test"), "a.b.c", ".."):
            assert not introspection.knows(token)
    assert await refuse(make_identity(desk, introspection), "a.b.c") is Flaw.FORMAT
    assert desk.asked == []


@pytest.mark.parametrize("token", ["a b", "a\nb", "é", "a=b", "a&token=b", "a" * 5_000, "\x00", "==="], ids=repr)
async def test_what_can_be_no_bearer_token_is_shown_to_nobody(
    desk: Desk, introspection: Introspection, token: str
) -> None:
    assert await refuse(make_identity(desk, introspection), token) is Flaw.FORMAT
    assert desk.asked == []


async def test_a_secret_that_can_not_be_read_refuses_to_start(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="client_secret_file"):
        make(desk, tmp_path / "nothing")


# The real provider.


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with OidcProvider(tmp_path_factory.mktemp("opaque"), opaque=(AUDIENCE,)) as running:
        yield running


async def test_opaque_tokens_of_a_real_provider_until_they_are_revoked(provider: OidcProvider, tmp_path: Path) -> None:
    now = time.time()
    secret = tmp_path / "secret"
    secret.write_text(provider.introspector_secret)
    settings = IntrospectionSettings(client_id=INTROSPECTOR, client_secret_file=secret, max_age=60)
    issuer = IssuerSettings(issuer=provider.issuer, introspection=settings)
    async with httpx2.AsyncClient(trust_env=False) as client:
        introspection = Introspection(issuer, settings, client, clock=lambda: now)
        identity = Identity(
            IdentitySettings(issuers=(issuer,)),
            ROLES,
            client=client,
            safeguards=Safeguards(introspectors=(introspection,)),
            clock=lambda: now,
        )
        tokens = await asyncio.to_thread(provider.log_in, "dev", resource=AUDIENCE, scope="openid offline_access")
        opaque = tokens["access_token"]
        assert "." not in opaque
        caller = await identity.authenticate(opaque, audience=AUDIENCE)
        assert (caller.subject, caller.itself, caller.roles) == ("dev", False, frozenset({"developer"}))
        service = await asyncio.to_thread(provider.log_in_service, resource=AUDIENCE)
        caller = await identity.authenticate(service["access_token"], audience=AUDIENCE)
        assert (caller.subject, caller.itself) == (caller.agent, True)
        with pytest.raises(Unauthenticated):
            await identity.authenticate(tokens["refresh_token"], audience=AUDIENCE)
        await asyncio.to_thread(provider.revoke, opaque)
        now += 60
        with pytest.raises(Unauthenticated) as refused:
            await identity.authenticate(opaque, audience=AUDIENCE)
        assert refused.value.flaw is Flaw.INACTIVE
