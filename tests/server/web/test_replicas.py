"""Two replicas behind one public URL, on one Redis: logins, sessions and logouts are the same on both."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from arborgate.tools.record import Event
from tests.parts.process import find_free_ports
from tests.server.issuing import ISSUER
from tests.server.web.hostile import Hostile
from tests.server.web.serving import serve
from tests.server.web.world import AGENT, World, hidden_fields, open_world

pytestmark = pytest.mark.anyio


@dataclass
class Replica:
    """One replica at its own port, and a browser that the load balancer sends there."""

    world: World
    port: int
    browser: httpx2.AsyncClient

    async def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """A request that names the public URL and arrives here."""
        public = urlsplit(self.world.url).netloc
        headers = {"Host": public, "Origin": self.world.url, "Sec-Fetch-Site": "same-origin"}
        return await self.browser.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, **options)


@pytest.fixture
async def pair(tmp_path: Path, redis_url: str, hostile: Hostile) -> AsyncIterator[tuple[Replica, Replica]]:
    """Both with the cookies of the same browser."""
    ports = find_free_ports(2)
    async with AsyncExitStack() as stack:
        browser = httpx2.AsyncClient(trust_env=False, headers={"User-Agent": AGENT})
        await stack.enter_async_context(browser)
        replicas = []
        for port in ports:
            opened = open_world(
                tmp_path / f"record-{port}", redis_url, url=f"http://127.0.0.1:{ports[0]}", issuer=ISSUER
            )
            world = await stack.enter_async_context(opened)
            world.change(client=hostile.client)
            await stack.enter_async_context(serve(world, port))
            replicas.append(Replica(world, port, browser))
        one, other = replicas
        yield one, other


async def log_in(begins: Replica, finishes: Replica, hostile: Hostile, sid: str = "s-1") -> httpx2.Response:
    begun = await begins.ask("GET", "/login?start=1&next=/apps")
    hostile.asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    hostile.changes = {"sid": sid, "groups": ["arborgate-approvers"]}
    return await finishes.ask("GET", f"/login/callback?state={hostile.asked['state']}&code=c")


async def statuses(pair: tuple[Replica, Replica]) -> list[int]:
    return [(await replica.ask("GET", "/proposals")).status_code for replica in pair]


async def test_a_login_begun_on_one_is_finished_on_the_other_and_opens_both(
    pair: tuple[Replica, Replica], hostile: Hostile
) -> None:
    one, other = pair
    finished = await log_in(one, other, hostile)
    assert (finished.status_code, finished.headers["location"]) == (303, "/apps")
    assert await statuses(pair) == [200, 200]


async def test_a_login_is_finished_on_one_of_them_alone(pair: tuple[Replica, Replica], hostile: Hostile) -> None:
    one, other = pair
    begun = await one.ask("GET", "/login?start=1")
    held = dict(one.browser.cookies)
    hostile.asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    path = f"/login/callback?state={hostile.asked['state']}&code=c"
    assert (await one.ask("GET", path)).status_code == 303
    other.browser.cookies = httpx2.Cookies(held)
    assert (await other.ask("GET", path)).status_code == 403


@pytest.mark.parametrize("number", [0, 1])
async def test_a_logout_on_either_ends_both(pair: tuple[Replica, Replica], hostile: Hostile, number: int) -> None:
    await log_in(*pair, hostile)
    cookies = dict(pair[0].browser.cookies)
    form = hidden_fields((await pair[1 - number].ask("GET", "/sessions")).text)
    assert (await pair[number].ask("POST", "/logout", data=form)).status_code == 303
    for replica in pair:
        replica.browser.cookies = httpx2.Cookies(cookies)
    assert await statuses(pair) == [303, 303]


@pytest.mark.parametrize("number", [0, 1])
async def test_a_logout_at_the_provider_told_to_either_ends_both(
    pair: tuple[Replica, Replica], hostile: Hostile, number: int
) -> None:
    await log_in(*pair, hostile)
    answer = await pair[number].ask("POST", "/logout/back-channel", data={"logout_token": hostile.logout_token()})
    assert answer.status_code == 200
    assert await statuses(pair) == [303, 303]
    assert len(pair[number].world.records(Event.SESSION_ENDED)) == 1


async def test_a_logout_token_used_on_one_is_refused_by_the_other(
    pair: tuple[Replica, Replica], hostile: Hostile
) -> None:
    one, other = pair
    form = {"logout_token": hostile.logout_token()}
    found = [(await replica.ask("POST", "/logout/back-channel", data=form)).status_code for replica in (one, other)]
    assert found == [200, 400]


async def test_a_step_up_on_one_ends_the_old_session_on_the_other(
    pair: tuple[Replica, Replica], hostile: Hostile
) -> None:
    one, other = pair
    await log_in(one, one, hostile)
    old = dict(one.browser.cookies)
    await log_in(one, one, hostile)
    assert await statuses(pair) == [200, 200]
    other.browser.cookies = httpx2.Cookies(old)
    assert await statuses(pair) == [303, 303]
    assert len(one.world.records(Event.SESSION_ENDED)) == 1
