"""The parts of one call in process, each by itself: where the time of a call goes."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import httpx2
import orjson
from tests.parts.redis import RedisServer
from tests.policies.writing import TRUSTING

from arborgate.policies.engine import Engine
from arborgate.policies.loader import load_policies
from arborgate.policies.model import Action, Caller, Channel
from arborgate.server.audit import AuditLog
from arborgate.server.identity.authentication import Identity, Safeguards
from arborgate.server.identity.flaws import Flaw, Unauthenticated
from arborgate.server.identity.nonces import Nonces
from arborgate.server.identity.proofs import Proofs, ReplayCheck
from arborgate.server.identity.replays import Memory, Replays
from arborgate.server.identity.settings import DpopSettings, IdentitySettings, IssuerSettings
from arborgate.server.redaction import Redactor
from arborgate.server.state import State
from arborgate.tools.app import App
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.record import Entry, Event
from arborgate.tools.redis.connection import connect
from arborgate.tools.tree import AppTree

from .issuer import Issuer
from .prover import Prover
from .report import Line, Part
from .world import build_world

_AUDIENCE: Final = "http://127.0.0.1/mcp"
_ROLES: Final = {"developer": ("arborgate-developers",)}
_WRITERS: Final = 64
_RULES: Final = (
    EnvironmentRule(name="production", strict=True, labels={"env": "production"}),
    EnvironmentRule(name="staging", labels={"env": "staging"}),
)


def measure_inside(folder: Path, apps: int) -> Part:
    """Times in microseconds of one core, medians of several rounds."""
    with Issuer() as issuer, RedisServer(folder, name="redis-inside") as redis:
        lines = asyncio.run(_measure(folder, issuer, redis, apps))
    return Part("The parts of a call, in process", lines)


async def _measure(folder: Path, issuer: Issuer, redis: RedisServer, apps: int) -> Sequence[Line]:
    return [
        *await _measure_identity(issuer),
        *await _measure_proofs(issuer, redis),
        *_measure_tree(apps),
        *_measure_redaction(apps),
        *await _measure_record(folder),
    ]


async def _measure_identity(issuer: Issuer) -> list[Line]:
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=issuer.url),))
    async with httpx2.AsyncClient(trust_env=False) as client:
        identity = Identity(settings, _ROLES, client=client)
        fresh = iter([issuer.token(_AUDIENCE) for _ in range(600)])
        known = issuer.token(_AUDIENCE)
        await identity.authenticate(known, audience=_AUDIENCE)
        return [
            Line(
                "token, seen before",
                await _time_async(lambda: identity.authenticate(known, audience=_AUDIENCE), 2_000),
                "µs",
                at_most=20,
            ),
            Line(
                "token, new",
                await _time_async(lambda: identity.authenticate(next(fresh), audience=_AUDIENCE), 100),
                "µs",
            ),
        ]


class _InMemory:
    """The memory of one replica as the only one."""

    def __init__(self) -> None:
        self._memory = Memory(300.0, time.monotonic)

    async def spend(self, thumbprint: str, proof_id: str) -> None:
        if not self._memory.add(f"{thumbprint} {proof_id}"):
            raise Unauthenticated(Flaw.PROOF_REPLAY)


async def _measure_proofs(issuer: Issuer, redis: RedisServer) -> list[Line]:
    dpop = DpopSettings(window=300.0)
    settings = IdentitySettings(issuers=(IssuerSettings(issuer=issuer.url),), dpop=dpop)
    prover = Prover(_AUDIENCE)
    rounds, times = 5, 100

    async with httpx2.AsyncClient(trust_env=False) as client, connect(redis.url()) as connection:
        state = State(connection, "arborgate:")

        async def time_calls(replays: ReplayCheck, tokens: int) -> float:
            """Each call with a new proof; as many different tokens as are asked for, the last one again and again."""
            proofs = Proofs(dpop, replays, Nonces(state, dpop))
            identity = Identity(settings, _ROLES, client=client, safeguards=Safeguards(proofs=proofs))
            bound = [issuer.token(_AUDIENCE, bound_to=prover.thumbprint) for _ in range(tokens)]
            bound += bound[-1:] * (rounds * times + 1 - tokens)
            calls = iter([(token, prover.prove(token)) for token in bound])

            async def call() -> None:
                token, proof = next(calls)
                await identity.authenticate(token, audience=_AUDIENCE, presented=proof)

            await call()
            return await _time_async(call, times, rounds=rounds)

        every = rounds * times + 1
        return [
            Line("JWT (key cached) + DPoP proof", await time_calls(_InMemory(), every), "µs", at_most=250),
            Line("the same, and the proof remembered in Redis", await time_calls(Replays(state, dpop), every), "µs"),
            Line("token, seen before + DPoP proof", await time_calls(_InMemory(), 1), "µs"),
            Line("the same, and the proof remembered in Redis", await time_calls(Replays(state, dpop), 1), "µs"),
        ]


def _measure_tree(count: int) -> list[Line]:
    environments = Environments(_RULES)
    parser = AppParser("live", environments, {})
    manifests = list(build_world(count))
    apps = [parser.parse(manifest) for manifest in manifests]
    ids = [app.id for app in apps]
    tree = AppTree(environments)
    changed = iter(_change(parser, manifests, 4_000))

    def fill() -> None:
        AppTree(environments).replace("live", apps)

    tree.replace("live", apps)
    policies, caller = load_policies(None), _caller()
    engine = Engine(policies, surroundings=TRUSTING)
    resources = [node.resource for node in tree.nodes()]
    engine.decide(caller, Action.APP_READ, resources[0])

    def decide_cold() -> None:
        Engine(policies, surroundings=TRUSTING).decide(caller, Action.APP_READ, resources[0])

    return [
        Line("parsing one Application", _time(lambda: parser.parse(manifests[-1]), 1_000), "µs"),
        Line(f"tree, all {count:,} apps put in", _time(fill, 1, rounds=3) / 1e3, "ms"),
        Line("tree, one app changed and read", _time(lambda: _put(tree, next(changed)), 500), "µs"),
        Line("tree, one app found by name", _time(lambda: tree.named(ids[-1].name), 2_000), "µs"),
        Line("policy, first decision of an engine", _time(decide_cold, 100), "µs"),
        Line(
            "policy, decided before", _time(lambda: engine.decide(caller, Action.APP_READ, resources[0]), 5_000), "µs"
        ),
        Line(
            f"policy, {count:,} apps seen by one caller",
            _time(lambda: engine.visible(caller, Action.APP_READ, resources), 5) / 1e3,
            "ms",
        ),
    ]


def _change(parser: AppParser, manifests: Sequence[dict[str, object]], count: int) -> list[App]:
    """Apps whose health goes up and down."""
    changed = []
    for number in range(count):
        manifest = manifests[-1 - number % 1_000]
        status = {**_object(manifest["status"]), "health": {"status": ("Degraded", "Healthy")[number // 1_000 % 2]}}
        changed.append(parser.parse({**manifest, "status": status}))
    return changed


def _object(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _put(tree: AppTree, app: App) -> None:
    tree.put(app)
    tree.get(app.id)


def _measure_redaction(count: int) -> list[Line]:
    redactor = Redactor()
    leaf = list(build_world(count))[-1]
    secret = {**leaf, "note": "postgres://app:hunter2hunter2@db.example/orders"}
    size = len(orjson.dumps(leaf))
    untouched = _time(lambda: redactor.clean(leaf), 500)
    walked = _time(lambda: redactor.clean(secret), 100)
    return [
        Line("redaction of an answer without a secret", size / untouched, "MB/s"),
        Line("redaction of an answer with one", size / walked, "MB/s"),
    ]


async def _measure_record(folder: Path) -> list[Line]:
    entry = Entry(event=Event.CALL_ANSWERED, caller="ada", tool="app_get", action="app:read", outcome="ok", took_us=300)
    async with AuditLog.open(folder / "bench-record", "bench") as audit:
        alone = await _time_async(lambda: audit.write(entry), 100)

        async def write(count: int) -> None:
            for _ in range(count):
                await audit.write(entry)

        each = 4_000 // _WRITERS
        began = time.perf_counter()
        await asyncio.gather(*(write(each) for _ in range(_WRITERS)))
        took = time.perf_counter() - began
    return [
        Line("record, one durable line alone", alone, "µs"),
        Line(f"record, durable lines by {_WRITERS} writers", each * _WRITERS / took, "lines/s"),
    ]


def _caller() -> Caller:
    return Caller(
        issuer="https://issuer.example",
        subject="ada",
        name="Ada",
        groups=frozenset({"arborgate-developers"}),
        roles=frozenset({"developer"}),
        agent="bench",
        channel=Channel.MCP,
    )


def _time(work: Callable[[], object], times: int, *, rounds: int = 5) -> float:
    """Microseconds of one call: the median over the rounds."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(found)


async def _time_async(work: Callable[[], Awaitable[object]], times: int, *, rounds: int = 5) -> float:
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(times):
            await work()
        found.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(found)
