"""The deny list: who is on it is out on every replica, and a list that is not known lets nobody in."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arborgate.policies.errors import Unavailable
from arborgate.policies.model import Caller, Channel
from arborgate.server.background import running
from arborgate.server.chain import read_records, verify
from arborgate.server.cli_deny import commands
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.denylist import Kind, SharedDenyList, longest_life
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.settings import (
    DenyListSettings,
    ExchangeSettings,
    IdentitySettings,
    IssuerSettings,
    PagesSettings,
)
from arborgate.server.settings import StateSettings
from arborgate.server.state import State, open_state
from tests.parts.redis import RedisCluster, RedisServer
from tests.server.issuing import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.anyio

LIFE = 86_400.0
ADA = f"{ISSUER}#ada"


class Clocks:
    """The time of day and the time since the start, both moved by a test."""

    def __init__(self) -> None:
        self.now = time.time()
        self.up = 1_000.0


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[State]:
    opened = open_state(StateSettings(url=redis_url, timeout=0.5))
    yield opened
    await opened.redis.aclose()


def make(state: State, clocks: Clocks, **settings: float) -> SharedDenyList:
    chosen = DenyListSettings.model_validate({"max_age": 30, **settings})
    return SharedDenyList(state, chosen, life=LIFE, clock=lambda: clocks.now, uptime=lambda: clocks.up)


@pytest.fixture
async def denied(state: State, clocks: Clocks) -> SharedDenyList:
    made = make(state, clocks)
    await made.refresh()
    return made


def caller(subject: str = "ada", agent: str = "ide", issuer: str = ISSUER, actors: tuple[str, ...] = ()) -> Caller:
    return Caller(
        issuer=issuer,
        subject=subject,
        name=subject,
        groups=frozenset(),
        roles=frozenset(),
        agent=agent,
        channel=Channel.MCP,
        actors=actors,
    )


def is_out(denied: SharedDenyList, who: Caller, *, token_id: str = "", issued_at: float = 0.0) -> bool:
    try:
        denied.check(who, token_id, issued_at)
    except Unauthenticated as refused:
        return refused.flaw is Flaw.DENIED
    return False


async def test_a_person_on_the_list_is_out_with_the_tokens_they_have(denied: SharedDenyList, clocks: Clocks) -> None:
    assert not is_out(denied, caller(), issued_at=clocks.now - 1)
    await denied.deny_person(ADA)
    assert is_out(denied, caller(), issued_at=clocks.now - 1)
    assert is_out(denied, caller(), issued_at=clocks.now)
    assert not is_out(denied, caller(), issued_at=clocks.now + 1)
    assert not is_out(denied, caller("ben"), issued_at=clocks.now - 1)


async def test_a_token_that_does_not_say_when_it_was_issued_is_out(denied: SharedDenyList, clocks: Clocks) -> None:
    await denied.deny_person(ADA)
    clocks.now += 100
    assert is_out(denied, caller(), issued_at=0.0)


async def test_a_person_can_be_shut_out_with_the_tokens_they_will_get(denied: SharedDenyList, clocks: Clocks) -> None:
    await denied.deny(Kind.PERSON, ADA, new_too=True, life=3_600)
    assert is_out(denied, caller(), issued_at=clocks.now + 1_000)
    clocks.now += 3_600
    assert not is_out(denied, caller(), issued_at=clocks.now)


async def test_who_is_shut_out_with_the_tokens_to_come_stays_out_until_admitted(
    denied: SharedDenyList, clocks: Clocks
) -> None:
    await denied.deny(Kind.PERSON, ADA, new_too=True)
    clocks.now += 1_000 * LIFE
    await denied.refresh()
    assert is_out(denied, caller(), issued_at=clocks.now)
    assert await denied.admit(Kind.PERSON, ADA) == 1
    assert not is_out(denied, caller(), issued_at=clocks.now)


async def test_a_token_on_the_list_is_out_whenever_it_was_issued(denied: SharedDenyList, clocks: Clocks) -> None:
    await denied.deny(Kind.TOKEN, f"{ISSUER}#t-1")
    assert is_out(denied, caller(), token_id=f"{ISSUER}#t-1", issued_at=clocks.now - 1)
    assert not is_out(denied, caller(), token_id=f"{ISSUER}#t-2", issued_at=clocks.now - 1)
    assert not is_out(denied, caller(), issued_at=clocks.now - 1)


async def test_a_token_of_another_issuer_by_the_same_id_is_not_meant(denied: SharedDenyList) -> None:
    await denied.deny(Kind.TOKEN, f"{ISSUER}#t-1")
    await denied.deny_person(ADA)
    other = "https://other.test"
    assert not is_out(denied, caller(issuer=other), token_id=f"{other}#t-1")


async def test_an_agent_on_the_list_is_out_whoever_it_acts_for(denied: SharedDenyList) -> None:
    await denied.deny(Kind.AGENT, f"{ISSUER}#bot")
    assert is_out(denied, caller(agent="bot"))
    assert is_out(denied, caller("ben", agent="desk", actors=("other", "bot")))
    assert not is_out(denied, caller())


async def test_a_single_token_is_refused_and_not_the_next_one_of_the_same_person(denied: SharedDenyList) -> None:
    issuer = Issuer()
    async with issuer.client:
        settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),))
        identity = Identity(settings, {}, client=issuer.client, safeguards=Safeguards(denied=denied))
        lost, kept = issuer.token(jti="t-1"), issuer.token(jti="t-2")
        await identity.authenticate(lost, audience=AUDIENCE)
        await denied.deny(Kind.TOKEN, f"{ISSUER}#t-1")
        with pytest.raises(Unauthenticated) as refused:
            await identity.authenticate(lost, audience=AUDIENCE)
        assert refused.value.flaw is Flaw.DENIED
        await identity.authenticate(kept, audience=AUDIENCE)


async def test_a_denial_does_not_outlive_the_tokens_it_is_about(
    denied: SharedDenyList, state: State, clocks: Clocks
) -> None:
    await denied.deny_person(ADA)
    clocks.now += LIFE
    assert not is_out(denied, caller())
    assert await denied.entries() == []
    await denied.deny_person(f"{ISSUER}#ben")
    assert await state.redis.zcard(state.key("denied", "entries")) == 1


async def test_every_replica_knows_after_its_next_refresh(denied: SharedDenyList, state: State, clocks: Clocks) -> None:
    other = make(state, clocks)
    await other.refresh()
    await denied.deny_person(ADA)
    assert not is_out(other, caller())
    await other.refresh()
    assert is_out(other, caller())
    await other.admit(Kind.PERSON, ADA)
    assert is_out(denied, caller())
    await denied.refresh()
    assert not is_out(denied, caller())


async def test_the_background_work_keeps_a_replica_current(
    denied: SharedDenyList, state: State, clocks: Clocks
) -> None:
    other = make(state, clocks, refresh=0.01)
    async with running(other.run()), asyncio.timeout(5):
        await denied.deny_person(ADA)
        out = False
        while not out:
            await asyncio.sleep(0.005)
            try:
                out = is_out(other, caller())
            except Unavailable:  # before its first look
                continue


async def test_being_denied_twice_is_undone_by_being_admitted_once(denied: SharedDenyList, clocks: Clocks) -> None:
    await denied.deny_person(ADA, reason="a lost laptop")
    clocks.now += 60
    await denied.deny_person(ADA, reason="another one")
    await denied.deny(Kind.AGENT, f"{ISSUER}#bot")
    assert is_out(denied, caller(), issued_at=clocks.now)
    assert await denied.admit(Kind.PERSON, ADA) == 2
    assert await denied.admit(Kind.PERSON, ADA) == 0
    assert not is_out(denied, caller(), issued_at=clocks.now - 1)
    assert is_out(denied, caller(agent="bot"))


async def test_a_later_denial_counts_beside_an_earlier_one(denied: SharedDenyList, clocks: Clocks) -> None:
    await denied.deny(Kind.PERSON, ADA, new_too=True, life=60)
    clocks.now += 50
    await denied.deny_person(ADA)
    clocks.now += 50
    assert is_out(denied, caller(), issued_at=clocks.now - 55)
    assert not is_out(denied, caller(), issued_at=clocks.now)


async def test_nobody_gets_in_before_the_list_is_known(state: State, clocks: Clocks) -> None:
    with pytest.raises(Unavailable):
        make(state, clocks).check(caller(), "", 0.0)


async def test_nobody_gets_in_once_the_list_is_too_old(
    denied: SharedDenyList, redis_server: RedisServer, clocks: Clocks
) -> None:
    redis_server.stop()
    clocks.up += 30
    with pytest.raises(Unavailable):
        await denied.refresh()
    assert not is_out(denied, caller())
    clocks.up += 0.1
    with pytest.raises(Unavailable):
        denied.check(caller(), "", 0.0)
    redis_server.start()
    await denied.refresh()
    assert not is_out(denied, caller())


async def test_a_list_is_as_old_as_the_question_that_brought_it(state: State) -> None:
    moments = iter([1_000.0, 1_031.0, 1_031.0])
    settings = DenyListSettings(max_age=30)
    denied = SharedDenyList(state, settings, life=LIFE, uptime=lambda: next(moments))
    await denied.refresh()
    with pytest.raises(Unavailable):
        denied.check(caller(), "", 0.0)


async def test_a_refresh_that_hangs_does_not_make_the_list_younger(
    denied: SharedDenyList, redis_server: RedisServer, clocks: Clocks
) -> None:
    redis_server.pause()
    clocks.up += 31
    with pytest.raises(Unavailable):
        await denied.refresh()
    with pytest.raises(Unavailable):
        denied.check(caller(), "", 0.0)


async def test_a_list_that_can_not_be_read_is_not_taken_for_empty(
    denied: SharedDenyList, state: State, clocks: Clocks
) -> None:
    await state.redis.zadd(state.key("denied", "entries"), {b"nonsense": clocks.now + 60})
    await state.redis.set(state.key("denied", "version"), "x")
    with pytest.raises(Unavailable):
        await denied.refresh()
    clocks.up += 31
    with pytest.raises(Unavailable):
        denied.check(caller(), "", 0.0)


async def test_who_can_not_be_put_on_the_list_is_said_not_to_be(
    denied: SharedDenyList, redis_server: RedisServer
) -> None:
    redis_server.refuse_writes()
    with pytest.raises(Unavailable):
        await denied.deny_person(ADA)
    assert not is_out(denied, caller())


async def test_the_list_works_on_a_cluster(redis_cluster: RedisCluster, clocks: Clocks) -> None:
    redis_cluster.flush()
    url = redis_cluster.url().replace("redis://", "redis+cluster://").removesuffix("/0")
    state = open_state(StateSettings(url=url, timeout=2.0))
    try:
        denied = make(state, clocks)
        await denied.refresh()
        await denied.deny_person(ADA)
        assert is_out(denied, caller())
        assert await denied.admit(Kind.PERSON, ADA) == 1
        assert not is_out(denied, caller())
    finally:
        await state.redis.aclose()


async def test_a_token_seen_before_is_refused_once_its_holder_is_denied(denied: SharedDenyList) -> None:
    issuer = Issuer()
    async with issuer.client:
        settings = IdentitySettings(issuers=(IssuerSettings(issuer=ISSUER),))
        identity = Identity(settings, {}, client=issuer.client, safeguards=Safeguards(denied=denied))
        token = issuer.token(jti="t-1", iat=int(time.time()) - 1)
        await identity.authenticate(token, audience=AUDIENCE)
        await denied.deny_person(ADA)
        for _ in range(2):
            with pytest.raises(Unauthenticated) as refused:
                await identity.authenticate(token, audience=AUDIENCE)
            assert refused.value.flaw is Flaw.DENIED
        await denied.admit(Kind.PERSON, ADA)
        await identity.authenticate(token, audience=AUDIENCE)


def test_a_denial_lasts_as_long_as_the_longest_token_or_session() -> None:
    issuers = (IssuerSettings(issuer=ISSUER, longest_life=600, leeway=10), IssuerSettings(issuer=f"{ISSUER}/2"))
    assert longest_life(IdentitySettings(issuers=issuers)) == 86_400 + 60
    assert longest_life(IdentitySettings(exchange=ExchangeSettings(life=900))) == 900
    pages = PagesSettings(issuer=ISSUER, session_limit=7_200)
    assert longest_life(IdentitySettings(pages=pages)) == 7_200


# The command.


@pytest.fixture
def config(redis_url: str, tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    settings = {
        "state": {"url": redis_url},
        "record": {"dir": str(tmp_path / "record")},
        "identity": {"issuers": [{"issuer": ISSUER}]},
    }
    file.write_text(json.dumps(settings))
    return file


def run(config: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(commands, [*words, "--config", str(config)])
    return result.exit_code, result.output + str(result.exception or "")


def test_the_command_denies_lists_and_admits_on_record(config: Path, tmp_path: Path) -> None:
    code, said = run(config, "add", "person", ADA, "--reason", "a lost laptop")
    assert (code, said.startswith(f"person {ADA}  tokens issued up to")) == (0, True)
    assert run(config, "add", "agent", f"{ISSUER}#bot", "--new-too", "--for", "2")[0] == 0
    code, listed = run(config, "list")
    assert code == 0
    assert [line.split()[:2] for line in listed.splitlines()] == [["agent", f"{ISSUER}#bot"], ["person", ADA]]
    assert "all tokens, for 2.0 h more" in listed
    assert "a lost laptop" in listed
    assert run(config, "remove", "person", ADA)[0] == 0
    assert run(config, "remove", "person", ADA)[0] == 1
    assert ADA not in run(config, "list")[1]
    (log,) = (tmp_path / "record").glob("*.jsonl")
    assert verify(log).whole
    told = [(record.event, record.resource) for record, _ in read_records(log) if record.event != "log:opened"]
    assert told == [
        ("caller:denied", f"person:{ADA}"),
        ("caller:denied", f"agent:{ISSUER}#bot"),
        ("caller:admitted", f"person:{ADA}"),
        ("caller:admitted", f"person:{ADA}"),
    ]


@pytest.mark.parametrize("name", ["ada", "https://other.test#ada", f"{ISSUER}#", f"{ISSUER}/#ada", f"{ISSUER}#a\nb"])
def test_the_command_refuses_a_name_that_nobody_can_have(config: Path, tmp_path: Path, name: str) -> None:
    code, said = run(config, "add", "person", name)
    assert code != 0
    assert "names nobody" in said
    assert not (tmp_path / "record").exists()


def test_the_command_changes_nothing_that_it_can_not_record(config: Path, tmp_path: Path) -> None:
    (tmp_path / "record").write_text("a file in the folder's place")
    assert run(config, "add", "person", ADA)[0] != 0
    assert run(config, "list") == (0, "")


def test_the_command_says_when_the_list_can_not_be_changed(
    config: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.refuse_writes()
    assert run(config, "add", "person", ADA)[0] != 0
    (log,) = (tmp_path / "record").glob("*.jsonl")
    outcomes = [record.outcome for record, _ in read_records(log) if record.event == "caller:denied"]
    assert outcomes == ["", "unavailable"]


def test_the_command_says_when_nobody_looks_at_the_list(config: Path) -> None:
    settings = json.loads(config.read_text())
    settings["identity"]["deny_list"] = {"enabled": False}
    config.write_text(json.dumps(settings))
    code, said = run(config, "add", "person", ADA)
    assert code != 0
    assert "deny_list.enabled" in said
