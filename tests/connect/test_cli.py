"""`arborgate connect | login | logout | whoami` as a person runs them, in a home of their own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from playwright.async_api import Page

from tests.connect.office import Office
from tests.connect.test_login import type_code
from tests.server.web import walk

pytestmark = pytest.mark.anyio

PATIENCE = 60.0


@dataclass
class Laptop:
    """Runs commands as one person. Their browser goes through every login by itself."""

    office: Office
    home: Path
    person: str = "vera"

    @property
    def environ(self) -> dict[str, str]:
        browser = f"{sys.executable} {walk.__file__} %s"
        own = {"XDG_STATE_HOME": str(self.home), "BROWSER": browser, "PERSON": self.person, "NO_COLOR": "1"}
        nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}  # this machine is not behind any proxy
        return {**os.environ, **own, **nowhere}

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        argv = (sys.executable, "-m", "arborgate.server.cli", *words)
        return await asyncio.create_subprocess_exec(*argv, env=self.environ, stdin=pipe, stdout=pipe, stderr=pipe)

    async def run(self, *words: str) -> tuple[int | None, str, str]:
        """Exit code, standard output and standard error."""
        process = await self.start(*words)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(b"")
        assert process.returncode != 1, err.decode()  # what went wrong is told with code 2; 1 is a stack trace
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def laptop(office: Office) -> Laptop:
    return Laptop(office, office.state.parent)


async def test_a_person_logs_in_sees_who_they_are_and_logs_out(office: Office, laptop: Laptop) -> None:
    code, out, err = await laptop.run("login", office.url)
    assert (code, out.startswith("Logged in. Its tokens are bound to a key of this machine (DPoP).")) == (0, True)
    assert "Log in in your browser" in err
    assert "for you alone" in err
    code, out, err = await laptop.run("whoami", f"{office.url}/mcp")
    assert (code, err) == (0, "")
    for fact in (
        "Vera Viewer",
        "viewer",
        "bound to a key of this machine",
        "renewed by itself after",
        str(laptop.home),
    ):
        assert fact in out
    entry = office.kept()
    assert entry.tokens is not None
    assert entry.tokens.access_token not in out
    assert (await laptop.run("logout", office.url))[:2] == (0, f"Logged out of {office.url}/mcp.\n")
    assert (await laptop.run("logout", office.url))[:2] == (0, "There was no login.\n")
    code, _, err = await laptop.run("whoami", office.url)
    assert (code, f"arborgate login {office.url}" in err) == (2, True)


async def test_a_person_logs_in_by_code(office: Office, laptop: Laptop, page: Page) -> None:
    process = await laptop.start("login", office.url, "--device")
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        line = (await process.stderr.readline()).decode()
        found = re.search(r"Go to (\S+) and type the code (\S+)", line)
        assert found, line
        await type_code(page, found)
        out, _ = await process.communicate()
    assert (process.returncode, out.decode().startswith("Logged in.")) == (0, True)


async def test_accounts_are_kept_apart_and_all_can_be_ended_at_once(office: Office, laptop: Laptop) -> None:
    await laptop.run("login", office.url)
    laptop.person = "dev"
    await laptop.run("login", office.url, "--account", "on call")
    assert "Vera Viewer" in (await laptop.run("whoami", office.url))[1]
    assert "Dev Developer" in (await laptop.run("whoami", office.url, "--account", "on call"))[1]
    code, out, _ = await laptop.run("logout", "--all")
    assert (code, out) == (0, f"Logged out of {office.url}/mcp.\n" * 2)
    assert not list(office.state.glob("*.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("login", "http://arborgate.test"), "neither https nor on loopback"),
        (("login", "nonsense"), "neither https nor on loopback"),
        (("connect", "https://ada:pw@arborgate.test"), "without user"),
        (("logout",), "Which login?"),
        (("whoami", "http://127.0.0.1:9", "--account", "a b"), "arborgate login http://127.0.0.1:9 --account 'a b'"),
        (("login", "http://127.0.0.1:9"), "127.0.0.1:9 does not answer."),
    ],
)
async def test_what_is_wrong_is_said_in_plain_words(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    argv = (sys.executable, "-m", "arborgate.server.cli", *words)
    environ = {name: value for name, value in os.environ.items() if name != "ARBORGATE_URL"}
    pipe = asyncio.subprocess.PIPE
    environ["XDG_STATE_HOME"] = str(tmp_path)
    process = await asyncio.create_subprocess_exec(*argv, env=environ, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(PATIENCE):
        _, err = await process.communicate(b"")
    assert (process.returncode, said in err.decode()) == (2, True), err.decode()


async def test_an_issuer_that_arborgate_does_not_trust_is_refused(office: Office, laptop: Laptop) -> None:
    code, _, err = await laptop.run("login", office.url, "--issuer", "https://evil.test")
    assert (code, f"It trusts: {office.provider.issuer}." in err) == (2, True)


@pytest.mark.parametrize("era", ["2026-07-28", "legacy"])
async def test_an_mcp_client_goes_through_the_bridge_with_bound_tokens(
    office: Office, laptop: Laptop, era: str
) -> None:
    program = ["-m", "arborgate.server.cli", "connect", office.url]
    server = StdioServerParameters(command=sys.executable, args=program, env=laptop.environ)
    async with asyncio.timeout(PATIENCE), Client(stdio_client(server), mode=era) as client:
        result = await client.call_tool("app_get", {"app": "api"})
    assert result.structured_content == {"app": "api", "note": "dpop: vera", "rows": []}


async def test_a_bridge_that_may_ask_nobody_says_what_to_run(office: Office, laptop: Laptop) -> None:
    process = await laptop.start("connect", office.url, "--no-browser")
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}\n')
        answer = (await process.stdout.readline()).decode()
        process.stdin.close()
        await process.wait()
    assert f"arborgate login {office.url}" in answer


async def test_a_copilot_does_not_wait_for_what_a_living_login_does_not_need() -> None:
    script = "import sys, arborgate.server.cli_connect, arborgate.server.connect.opening; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    loaded = {name.partition(".")[0] for name in out.decode().split()}
    assert loaded.isdisjoint({"authlib", "httpx2", "keyring", "mcp", "starlette", "yaml"})
