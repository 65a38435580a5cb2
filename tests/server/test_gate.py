"""The gate: each closed rule of the one path of a call."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from arborgate.policies.engine import Engine
from arborgate.policies.errors import ArborgateError, NotThere, Reason, Unrecorded
from arborgate.policies.loader import load_policies
from arborgate.policies.model import (
    INSTALLATION,
    Action,
    Basis,
    Caller,
    Channel,
    Decision,
    Resource,
    ResourceType,
)
from arborgate.server.audit import AuditLog
from arborgate.server.chain import read_records, verify
from arborgate.server.gate import Answer, CallerPolicy, Gate, UnknownTool
from arborgate.server.metrics import Metrics
from arborgate.server.redaction import Redactor
from arborgate.tools.budget import ANSWER, Budget
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.proposal import Proposals
from arborgate.tools.record import Entry, Event, Record, Records
from arborgate.tools.tool import Context, Effect, Params, Result, Sealer, Tool
from arborgate.tools.tree import AppTree
from tests.policies.writing import TRUSTING
from tests.server.pasts import decide_again

pytestmark = pytest.mark.anyio

ENVIRONMENTS = Environments([EnvironmentRule(name="dev", clusters=("dev",))])
LOADED = load_policies(None)


class Asked(Params):
    app: str
    note: str = ""


class Told(Result):
    app: str
    note: str
    rows: tuple[str, ...] = ()


def make_caller(*roles: str, agent: str = "ide-copilot", channel: Channel = Channel.MCP) -> Caller:
    return Caller(
        issuer="https://issuer.test",
        subject="ada",
        name="Ada",
        groups=frozenset(),
        roles=frozenset(roles),
        agent=agent,
        channel=channel,
    )


def app_named(name: str) -> Resource:
    attributes = (
        ("cluster", "dev"),
        ("environment", "dev"),
        ("labels", ()),
        ("name", name),
        ("namespace", "argocd"),
        ("project", "default"),
    )
    return Resource(ResourceType.APP, f"dev/argocd/{name}", (ENVIRONMENTS.resource("dev"),), attributes)


async def name_app(_ctx: Context, params: Asked) -> Sequence[Resource]:
    if params.app == "missing":
        raise NotThere("no such app")
    return [app_named(params.app)]


async def tell(_ctx: Context, params: Asked) -> Told:
    return Told(app=params.app, note=params.note or "fine")


def make_tool(
    run: Callable[[Context, Asked], Awaitable[Told]] = tell,
    *,
    action: Action = Action.APP_READ,
    effect: Effect = Effect.READS,
    budget: Budget = ANSWER,
) -> Tool[Asked, Told]:
    return Tool(
        name="app_get",
        description="One app.",
        params=Asked,
        result=Told,
        action=action,
        resources=name_app,
        run=run,
        render=lambda told: f"{told.app}: {told.note}",
        effect=effect,
        target="app",
        budget=budget,
    )


@dataclass
class World:
    """A gate over the shipped policies and a real log; `records` reads the log back."""

    gate: Gate
    log: AuditLog

    async def call(self, arguments: dict[str, Any] | None = None, *roles: str, name: str = "app_get") -> Answer:
        caller = make_caller(*(roles or ("viewer",)))
        return await self.gate.call(caller, name, {"app": "api"} if arguments is None else arguments)

    def records(self) -> list[Record]:
        beside = (Event.FACTS_NOTED, Event.LOG_OPENED)
        return [record for record, _ in read_records(self.log.path) if record.event not in beside]


class BrokenEngine(Engine):
    """An engine that fails inside, as Cedar does on an attribute that is not there."""

    def decide(self, *_args: Any, **_kwargs: Any) -> Decision:
        return Decision(False, Basis.ERROR, error="attribute `owner` does not exist")


@asynccontextmanager
async def open_world(
    tmp_path: Path,
    *tools: Tool[Asked, Told],
    engine: Engine | None = None,
    timeout: float = 5.0,
    recorder: Any = None,
    acr_values: Sequence[str] = (),
) -> AsyncIterator[World]:
    chosen = engine or Engine(LOADED, surroundings=TRUSTING)

    async def enter(caller: Caller, policy: CallerPolicy) -> Context:
        return Context(
            caller=caller,
            policy=policy,
            tree=AppTree(ENVIRONMENTS),
            environments=ENVIRONMENTS,
            proposals=cast("Proposals", None),
            records=cast("Records", None),
            sources={},
            seal=cast("Sealer", None),
            now=0.0,
        )

    async with AuditLog.open(tmp_path, "serve-1") as log:
        gate = Gate(
            tools or (make_tool(),),
            engine=lambda: chosen,
            context=enter,
            recorder=recorder or log,
            cleaner=Redactor(),
            metrics=Metrics(),
            timeout=timeout,
            acr_values=acr_values,
        )
        yield World(gate, log)


async def test_an_allowed_call_is_answered_and_on_record(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        answer = await world.call()
        assert answer == Answer({"app": "api", "note": "fine", "rows": []}, "api: fine")
        (record,) = world.records()
    assert (record.event, record.decision, record.outcome) == (Event.CALL_ANSWERED, "allow", "ok")
    assert (record.caller, record.agent, record.tool) == ("https://issuer.test#ada", "ide-copilot", "app_get")
    assert (record.action, record.resource, record.policies) == ("app:read", "App::dev/argocd/api", ("readers-read",))
    assert record.policy_set == LOADED.digest
    assert record.bytes > 0


async def test_a_caller_without_a_role_is_denied_by_default(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        answer = await world.gate.call(make_caller(), "app_get", {"app": "api"})
        (record,) = world.records()
    assert answer.structured is None
    assert (record.event, record.decision) == (Event.CALL_DENIED, "deny")


async def test_a_denied_read_and_a_missing_thing_look_the_same_and_differ_in_the_record(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        denied = (await world.gate.call(make_caller(), "app_get", {"app": "missing"})).error
        async with open_world(tmp_path / "other") as other:
            hidden = (await other.gate.call(make_caller(), "app_get", {"app": "secret"})).error
            (hidden_record,) = other.records()
        (missing_record,) = world.records()
    assert denied is not None
    assert hidden is not None
    alike = [hidden.message.replace("secret", "X"), denied.message.replace("missing", "X")]
    assert alike[0] == alike[1]
    assert (hidden.reason, hidden.field, hidden.hint) == (denied.reason, denied.field, denied.hint)
    assert hidden.detail == denied.detail == ""
    assert (missing_record.event, hidden_record.event) == (Event.CALL_FAILED, Event.CALL_DENIED)


async def test_an_error_while_deciding_is_a_denial_recorded_with_its_reason(tmp_path: Path) -> None:
    async with open_world(tmp_path, engine=BrokenEngine(LOADED)) as world:
        answer = await world.call()
        (record,) = world.records()
    assert answer.structured is None
    assert (record.decision, record.detail) == ("deny", "attribute `owner` does not exist")
    assert answer.error is not None
    assert "owner" not in f"{answer.error.message}{answer.error.hint}{answer.error.detail}"


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        ({"app": "api", "nots": 1}, "nots", "unknown field, did you mean 'note'?"),
        ({}, "app", "app: is needed"),
        ({"app": 7}, "app", "should be a valid string"),
        ({"app": "x" * 5_000}, "app", "at most 4096 characters"),
    ],
)
async def test_wrong_arguments_name_the_field_and_the_way_out(
    tmp_path: Path, arguments: dict[str, Any], field: str, words: str
) -> None:
    async with open_world(tmp_path) as world:
        error = (await world.call(arguments)).error
        (record,) = world.records()
    assert error is not None
    assert (error.reason, error.field) == (Reason.INVALID, field)
    assert words in error.message
    assert record.event is Event.CALL_FAILED


async def test_a_wrong_argument_is_never_echoed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        error = (await world.call({"app": ["planted-value"]})).error
        assert b"planted-value" not in world.log.path.read_bytes()
    assert error is not None
    assert "planted-value" not in f"{error.message}{error.hint}"


async def test_an_unknown_tool_names_near_ones(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        error = (await world.call(name="app_gett")).error
    assert isinstance(error, UnknownTool)
    assert error.hint == "Did you mean app_get?"


async def test_a_tool_with_an_effect_does_not_run_when_its_intent_cannot_be_recorded(tmp_path: Path) -> None:
    ran = False

    async def run(_ctx: Context, params: Asked) -> Told:
        nonlocal ran
        ran = True
        return Told(app=params.app, note="done")

    class Refusing:
        async def write(self, _entry: Entry) -> Record:
            raise Unrecorded("The audit log can't be written.")

    tool = make_tool(run, action=Action.ROLLOUT_PROPOSE, effect=Effect.PROPOSES)
    async with open_world(tmp_path, tool, recorder=Refusing()) as world:
        answer = await world.call(None, "developer")
    assert answer.error is not None
    assert answer.error.reason is Reason.UNRECORDED
    assert not ran


async def test_a_tool_with_an_effect_has_its_intent_on_record_before_it_runs(tmp_path: Path) -> None:
    seen: list[Event] = []
    async with open_world(tmp_path) as probe:
        world: World = probe

        async def run(_ctx: Context, params: Asked) -> Told:
            seen.extend(record.event for record in world.records())
            return Told(app=params.app, note="done")

        tool = make_tool(run, action=Action.ROLLOUT_PROPOSE, effect=Effect.PROPOSES)
        async with open_world(tmp_path / "inner", tool) as inner:
            world = inner
            await inner.call(None, "developer")
            assert [record.event for record in inner.records()] == [Event.CALL_INTENDED, Event.CALL_ANSWERED]
    assert seen == [Event.CALL_INTENDED]


async def test_nothing_leaves_when_its_record_cannot_be_written(tmp_path: Path) -> None:
    class Refusing:
        async def write(self, _entry: Entry) -> Record:
            raise Unrecorded("The audit log can't be written.", detail="No space left on device")

    async with open_world(tmp_path, recorder=Refusing()) as world:
        answer = await world.call()
    assert answer.structured is None
    assert answer.text == ""
    assert answer.error is not None
    assert (answer.error.reason, answer.error.detail) == (Reason.UNRECORDED, "")


async def test_nothing_leaves_before_its_record_is_durable(tmp_path: Path) -> None:
    durable = asyncio.Event()

    class Slow:
        async def write(self, entry: Entry) -> Record:
            await durable.wait()
            return Record(seq=1, time="", replica="", prev="", hash="", event=entry.event)

    async with open_world(tmp_path, recorder=Slow()) as world:
        call = asyncio.create_task(world.call())
        done, _ = await asyncio.wait({call}, timeout=0.05)
        assert not done
        durable.set()
        assert (await call).error is None


async def test_a_call_past_its_deadline_is_stopped_and_on_record(tmp_path: Path) -> None:
    async def run(_ctx: Context, _params: Asked) -> Told:
        await asyncio.Event().wait()
        raise AssertionError

    async with open_world(tmp_path, make_tool(run), timeout=0.02) as world:
        answer = await world.call()
        (record,) = world.records()
    assert answer.error is not None
    assert answer.error.reason is Reason.DEADLINE
    assert record.outcome == "deadline"


async def test_an_unforeseen_failure_tells_nothing_and_is_on_record(tmp_path: Path) -> None:
    async def run(_ctx: Context, _params: Asked) -> Told:
        raise RuntimeError("redis.internal.corp:6379 refused user arborgate")

    async with open_world(tmp_path, make_tool(run)) as world:
        answer = await world.call()
        (record,) = world.records()
    assert answer.error is not None
    assert "redis.internal" not in f"{answer.error.message}{answer.error.hint}{answer.error.detail}"
    assert record.detail.startswith("RuntimeError")


async def test_a_cancelled_call_is_on_record(tmp_path: Path) -> None:
    running = asyncio.Event()

    async def run(_ctx: Context, _params: Asked) -> Told:
        running.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with open_world(tmp_path, make_tool(run)) as world:
        call = asyncio.create_task(world.call())
        await running.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        (record,) = world.records()
    assert record.event is Event.CALL_FAILED


async def test_secrets_and_harmful_characters_do_not_leave(tmp_path: Path) -> None:
    async def run(_ctx: Context, params: Asked) -> Told:
        return Told(app=params.app, note="\x1b[31mpassword=planted-pass\u202e", rows=("https://u:planted-pass@h",))

    async with open_world(tmp_path, make_tool(run)) as world:
        answer = await world.call()
        (record,) = world.records()
    assert "planted-pass" not in json.dumps(answer.structured) + answer.text
    assert "\x1b" not in answer.text
    assert "\u202e" not in answer.text
    assert record.redactions == 2


async def test_an_answer_over_its_budget_is_cut_and_says_so(tmp_path: Path) -> None:
    async def run(_ctx: Context, params: Asked) -> Told:
        return Told(app=params.app, note="n", rows=tuple(f"row {number} of many" for number in range(500)))

    async with open_world(tmp_path, make_tool(run, budget=Budget(2_000))) as world:
        answer = await world.call()
    assert answer.structured is not None
    assert len(orjson.dumps(answer.structured)) <= 2_000
    assert "of 500 rows" in answer.structured["cut"]


async def test_a_call_about_nothing_is_denied(tmp_path: Path) -> None:
    async def nothing(_ctx: Context, _params: Asked) -> Sequence[Resource]:
        return []

    async with open_world(tmp_path, replace(make_tool(), resources=nothing)) as world:
        answer = await world.call()
    assert answer.error is not None
    assert answer.error.reason is Reason.DENIED


async def test_every_resource_of_a_call_must_be_allowed(tmp_path: Path) -> None:
    async def two(_ctx: Context, _params: Asked) -> Sequence[Resource]:
        return [app_named("api"), INSTALLATION]

    async with open_world(tmp_path, replace(make_tool(action=Action.ROLLOUT_PROPOSE), resources=two)) as world:
        answer = await world.call(None, "developer")
        (record,) = world.records()
    assert answer.error is not None
    assert record.decision == "deny"


async def test_only_usable_tools_are_offered(tmp_path: Path) -> None:
    proposing = replace(make_tool(action=Action.ROLLOUT_PROPOSE, effect=Effect.PROPOSES), name="rollout_propose")
    async with open_world(tmp_path, make_tool(), proposing) as world:
        assert [tool.name for tool in world.gate.offered(make_caller("viewer"))] == ["app_get"]
        assert [tool.name for tool in world.gate.offered(make_caller("developer"))] == ["app_get", "rollout_propose"]
        assert world.gate.offered(make_caller()) == []


async def test_a_call_on_record_can_be_decided_again_from_the_log_alone(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for roles in (("viewer",), ("stranger",)):
            await world.call(None, *roles)
    found = decide_again(world.log.path, Engine(LOADED, surroundings=TRUSTING))
    assert [(record.decision, again.allowed) for record, again in found] == [("allow", True), ("deny", False)]
    assert [record.policies for record, _ in found] == [again.policies for _, again in found]


async def test_the_log_of_all_this_is_whole(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await asyncio.gather(*(world.call() for _ in range(20)))
        assert verify(world.log.path).whole


async def test_an_answer_that_no_longer_fits_its_model_does_not_leave(tmp_path: Path) -> None:
    class Breaking(Redactor):
        def clean(self, value: Any) -> tuple[Any, int]:
            return {**value, "extra": 1}, 0

    async with open_world(tmp_path) as world:
        world.gate._cleaner = Breaking()
        answer = await world.call()
    assert isinstance(answer.error, ArborgateError)
    assert answer.structured is None
