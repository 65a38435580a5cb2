"""Two replicas of `arborgate serve` on one Redis: what one has seen, opened or ended, the other knows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from joserfc.jwk import ECKey
from playwright.async_api import Page

from arborgate.server.approvals import new_signing_key
from tests.identity.served import Served
from tests.parts.oidc import OidcProvider, describe_pages, make_proof
from tests.parts.redis import RedisServer

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Pair:
    """Both replicas are told that they are at the first one's address, as behind a load balancer."""

    one: Served
    other: Served


@pytest.fixture
def pair(tmp_path: Path, redis_server: RedisServer, redis_url: str, oidc_provider: OidcProvider) -> Iterator[Pair]:
    secret, (signing, _) = secrets.token_hex(16), new_signing_key()
    (tmp_path / "pages.secret").write_text(secret)
    (tmp_path / "signing.jwk").write_text(signing)
    pages: dict[str, Any] = {
        "issuer": oidc_provider.issuer,
        "client_id": "replicated-pages",
        "client_secret_file": str(tmp_path / "pages.secret"),
    }
    issuers = [{"issuer": oidc_provider.issuer}]
    more = {"proposals": {"signing_key_file": str(tmp_path / "signing.jwk")}}
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    one = Served(folders[0], redis_url, issuers, more=more, pages=pages)
    other = Served(folders[1], redis_url, issuers, more=more, pages=pages, public_url=one.url)
    oidc_provider.add_client(
        describe_pages(
            "replicated-pages", secret, f"{one.url}/login/callback", logout_uri=f"{one.url}/logout/back-channel"
        )
    )
    with one, other:
        yield Pair(one, other)


async def test_a_proof_used_on_one_is_refused_by_the_other(pair: Pair, oidc_provider: OidcProvider) -> None:
    key = ECKey.generate_key("P-256")
    token = str(oidc_provider.log_in("dev", resource=pair.one.audience, key=key)["access_token"])
    proof = make_proof(key, "POST", pair.one.audience, token=token)
    assert (await pair.one.knock(token, proof=proof)).status_code == 200
    replayed = await pair.other.knock(token, proof=proof)
    assert (replayed.status_code, 'error="invalid_dpop_proof"' in replayed.headers["www-authenticate"]) == (401, True)
    fresh = make_proof(key, "POST", pair.one.audience, token=token)
    assert (await pair.other.knock(token, proof=fresh)).status_code == 200


async def log_in(page: Page, pair: Pair) -> None:
    await page.goto(f"{pair.one.url}/proposals")
    await page.get_by_role("link", name="Log in").click()
    await page.get_by_label("User name").fill("april")
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(f"{pair.one.url}/proposals")


async def is_in(page: Page, replica: Served) -> bool:
    """Whether the browser has a session there; cookies do not tell ports apart."""
    await page.goto(f"{replica.url}/sessions")
    return page.url == f"{replica.url}/sessions"


async def test_a_session_opened_on_one_works_on_the_other_and_its_logout_ends_both(pair: Pair, page: Page) -> None:
    await log_in(page, pair)
    assert [await is_in(page, replica) for replica in (pair.one, pair.other)] == [True, True]
    await page.goto(f"{pair.one.url}/proposals")
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url("**/login?ended=**")
    assert [await is_in(page, replica) for replica in (pair.one, pair.other)] == [False, False]


async def test_a_logout_at_the_provider_ends_the_session_on_both(
    pair: Pair, page: Page, oidc_provider: OidcProvider
) -> None:
    await log_in(page, pair)
    assert await is_in(page, pair.other)
    cookies = httpx2.Cookies()
    for cookie in await page.context.cookies(oidc_provider.issuer):
        cookies.set(str(cookie.get("name")), str(cookie.get("value")), domain="127.0.0.1")
    await anyio.to_thread.run_sync(oidc_provider.log_out, cookies)
    assert [await is_in(page, replica) for replica in (pair.one, pair.other)] == [False, False]
