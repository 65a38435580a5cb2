"""Tokens that are of no use to who steals them, from the real provider to `whoami`; and opaque ones."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from playwright.async_api import Page

from tests.identity.served import Seen, Served, who_am_i
from tests.parts.oidc import AGENT, INTROSPECTOR, SERVICE, OidcProvider, make_proof
from tests.parts.redis import RedisServer
from tests.server.serving import ERAS

pytestmark = pytest.mark.anyio

TOLD = re.compile(r"Go to (?P<url>\S+) and type the code (?P<code>\S+)|go to:\s+(?P<link>\S+)\n")


@pytest.fixture(scope="module")
def strict(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, oidc_session: OidcProvider
) -> Iterator[Served]:
    """A replica that takes bound tokens alone, with proofs that hold a nonce of its own."""
    issuer = {"issuer": oidc_session.issuer, "require_dpop": True, "dpop_nonce": True}
    redis_server.recover()
    with Served(tmp_path_factory.mktemp("strict"), redis_server.url(), [issuer], jwks_min_interval=0.1) as served:
        yield served


class Laptop:
    """A person's machine: `arborgate` as a command, with a home of its own and no keyring."""

    def __init__(self, home: Path) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        keyring = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
        # A "browser" that shows nothing: the test's own takes the link. Without any, people log in by a code.
        self.env = {**kept, **keyring, "HOME": str(home), "BROWSER": "true"}

    def argv(self, *command: str) -> list[str]:
        return [sys.executable, "-m", "arborgate.server.cli", *command]

    async def log_in(self, url: str, page: Page, person: str, *how: str) -> str:
        """Runs `arborgate login`, goes with the browser where it says; returns all that it said."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self.argv("login", url, *how), env=self.env, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(60):
            while not (told := TOLD.search(said)):
                line = await process.stdout.readline()
                assert line, said
                said += line.decode()
            await page.goto(told["url"] or told["link"])
            if told["code"]:
                await page.locator("input[name=user_code]").fill(told["code"])
                await page.get_by_role("button", name="Continue").click()
                await page.get_by_role("button", name="Continue").click()
            await page.get_by_label("User name").fill(person)
            await page.get_by_role("button", name="Log in").click()
            said += (await process.stdout.read()).decode()
            assert await process.wait() == 0, said
        return said


@pytest.mark.parametrize("how", [(), ("--device",)], ids=["by browser", "by device code"])
async def test_a_copilot_calls_through_the_bridge_with_tokens_that_are_bound_to_its_key(
    tmp_path: Path, strict: Served, oidc_provider: OidcProvider, page: Page, how: tuple[str, ...]
) -> None:
    laptop = Laptop(tmp_path)
    assert "Logged in." in await laptop.log_in(strict.url, page, "dev", *how)
    command, *args = laptop.argv("connect", strict.url, "--no-browser")
    bridge = StdioServerParameters(command=command, args=args, env=laptop.env)
    for era in ERAS:
        async with Client(stdio_client(bridge), mode=era) as client:
            seen = await who_am_i(client)
        assert seen == Seen(
            f"{oidc_provider.issuer}#dev",
            seen.agent,
            groups=("arborgate-developers",),
            roles=("developer",),
            binding="dpop",
        )
        assert seen.agent not in ("", AGENT)  # a client that was registered for this machine


async def prove(served: Served, key: ECKey, token: str) -> str:
    """A proof with the nonce that the first answer gives."""
    refused = await served.knock(token, proof=make_proof(key, "POST", served.audience, token=token))
    assert refused.status_code == 401
    assert 'error="use_dpop_nonce"' in refused.headers["WWW-Authenticate"]
    return make_proof(key, "POST", served.audience, token=token, nonce=refused.headers["DPoP-Nonce"])


@pytest.mark.parametrize("who", ["a person", "an app"])
async def test_a_bound_token_is_good_with_its_key_and_once_for_each_proof(
    strict: Served, oidc_provider: OidcProvider, who: str
) -> None:
    key = ECKey.generate_key("P-256")
    get: dict[str, Any] = {"resource": strict.audience, "key": key}
    tokens = oidc_provider.log_in("dev", **get) if who == "a person" else oidc_provider.log_in_service(**get)
    proof = await prove(strict, key, tokens["access_token"])
    assert (await strict.knock(tokens["access_token"], proof=proof)).is_success
    again = await strict.knock(tokens["access_token"], proof=proof)
    assert again.status_code == 401
    assert 'error="invalid_dpop_proof"' in again.headers["WWW-Authenticate"]


async def test_a_bound_token_is_of_no_use_to_who_has_not_its_key(strict: Served, oidc_provider: OidcProvider) -> None:
    key, thief = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    token = oidc_provider.log_in("dev", resource=strict.audience, key=key)["access_token"]
    as_bearer = await strict.knock(token)
    assert as_bearer.status_code == 401
    assert as_bearer.headers["WWW-Authenticate"].startswith('DPoP error="invalid_token"')
    assert (await strict.knock(token, proof=make_proof(thief, "POST", strict.audience, token=token))).status_code == 401


async def test_an_unbound_token_is_refused_where_only_bound_ones_will_do(
    strict: Served, oidc_provider: OidcProvider
) -> None:
    for tokens in (
        oidc_provider.log_in("dev", resource=strict.audience),
        oidc_provider.log_in_service(client_id=SERVICE, resource=strict.audience),
    ):
        refused = await strict.knock(tokens["access_token"])
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("DPoP ")


async def test_an_opaque_token_is_good_until_it_is_revoked(
    tmp_path: Path, redis_url: str, oidc_provider: OidcProvider
) -> None:
    secret = tmp_path / "introspection.secret"
    secret.touch(mode=0o600)
    secret.write_text(oidc_provider.introspector_secret)
    asking = {"client_id": INTROSPECTOR, "client_secret_file": str(secret), "max_age": 0.5}
    with Served(tmp_path, redis_url, [{"issuer": oidc_provider.issuer, "introspection": asking}]) as served:
        oidc_provider.issue_opaque(served.audience)
        token = oidc_provider.log_in("dev", resource=served.audience)["access_token"]
        assert await served.ask(token) == Seen(
            f"{oidc_provider.issuer}#dev", AGENT, groups=("arborgate-developers",), roles=("developer",)
        )
        oidc_provider.revoke(token)
        async with asyncio.timeout(10):
            while (await served.knock(token)).status_code != 401:
                await asyncio.sleep(0.05)
