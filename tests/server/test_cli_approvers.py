"""`arborgate approvers`: what is enrolled, the file made of it, and how the two differ."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from arborgate.policies.model import Caller, Channel
from arborgate.server.approvers import read_approvers
from arborgate.server.cli_approvers import commands
from arborgate.server.enrolment import Enrolment
from arborgate.server.passkeys import RelyingParty
from arborgate.server.settings import PasskeyUse
from arborgate.server.state import State
from arborgate.tools.record import Entry, Record
from arborgate.tools.redis.connection import connect
from tests.parts.authenticator import Authenticator

PARTY = RelyingParty.of("https://arborgate.test")


class Unwritten:
    """A record that is for other tests."""

    async def write(self, entry: Entry) -> Record:
        return Record(event=entry.event, seq=1, time="", replica="", prev="", hash="")


async def enrol(redis_url: str, subject: str) -> Authenticator:
    caller = Caller(
        issuer="https://issuer.test",
        subject=subject,
        name=subject.title(),
        groups=frozenset({"b-group", "a-group"}),
        roles=frozenset(),
        agent="",
        channel=Channel.PAGES,
    )
    device = Authenticator(PARTY, caller.key)
    async with connect(redis_url) as redis:
        enrolment = Enrolment(State(redis, "arborgate:"), PARTY, PasskeyUse.OPTIONAL, Unwritten(), clock=lambda: 1e9)
        answer = device.make(await enrolment.begin(caller, "session"))
        await enrolment.enrol(caller, "session", "Laptop", answer)
    return device


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> str:
    path = tmp_path / "arborgate.yaml"
    path.write_text(f"state: {{url: '{redis_url}', prefix: 'arborgate:'}}\n")
    return str(path)


def run(config: str, *words: str) -> Result:
    return CliRunner().invoke(commands, [*words, "--config", config], catch_exceptions=False)


def test_what_is_exported_is_what_was_enrolled(config: str, redis_url: str, tmp_path: Path) -> None:
    devices = [asyncio.run(enrol(redis_url, name)) for name in ("bob", "ana")]
    pinned = tmp_path / "approvers.yaml"
    pinned.write_text(run(config, "export").output, encoding="utf-8")
    ana, bob = read_approvers(pinned).approvers
    assert (ana.key, ana.groups) == ("https://issuer.test#ana", ("a-group", "b-group"))
    assert [one.passkeys[0].public_key for one in (bob, ana)] == [one.passkey.public_key for one in devices]
    assert run(config, "verify", str(pinned)).output == f"{pinned}: as enrolled\n"
    assert "Laptop" in run(config, "list").output


def test_who_added_themselves_since_shows(config: str, redis_url: str, tmp_path: Path) -> None:
    asyncio.run(enrol(redis_url, "ana"))
    pinned = tmp_path / "approvers.yaml"
    pinned.write_text(run(config, "export").output, encoding="utf-8")
    eve = asyncio.run(enrol(redis_url, "eve"))
    result = run(config, "verify", str(pinned))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert all(line.startswith("+ ") and "issuer.test#eve" in line for line in lines)
    assert any(eve.passkey.public_key in line for line in lines)


def test_somebody_elses_new_key_under_a_known_name_shows(config: str, redis_url: str, tmp_path: Path) -> None:
    device = asyncio.run(enrol(redis_url, "ana"))
    pinned = tmp_path / "approvers.yaml"
    text = run(config, "export").output
    other = Authenticator(PARTY, device.owner).passkey.public_key
    pinned.write_text(text.replace(device.passkey.public_key, other), encoding="utf-8")
    result = run(config, "verify", str(pinned))
    assert (result.exit_code, [line[0] for line in result.output.splitlines()]) == (1, ["-", "+"])
