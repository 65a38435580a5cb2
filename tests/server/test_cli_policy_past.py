"""`arborgate policy explain --record` and `arborgate policy diff`: what they print of a past, and their exit codes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from arborgate.policies.agents import Agents
from arborgate.policies.engine import Engine
from arborgate.policies.loader import read_policies
from arborgate.policies.model import INSTALLATION, Action, Binding, Channel, Question
from arborgate.policies.surroundings import Surroundings
from arborgate.server.audit import AuditLog
from arborgate.server.cli_policy import commands
from arborgate.server.cli_record import commands as record_commands
from tests.policies.writing import TRUSTING, app, environment, keyspace, person, proposal
from tests.server.pasts import ask, entry_of, write, write_past

pytestmark = pytest.mark.anyio

OLD = """
@id("viewers-read")
permit (principal in Role::"viewer", action in Action::"read", resource);

@id("developers-read-values")
permit (principal in Role::"developer", action == Action::"redis:read_value", resource)
unless { context.strict };

@id("approvers-decide")
permit (principal in Role::"approver", action == Action::"proposal:approve", resource)
when { context.login_age <= 900 };
"""
NEW = (
    OLD.replace("unless { context.strict }", 'unless { resource in App::"main/argocd/bank" }')
    + """
@id("toys-are-closed")
forbid (principal, action == Action::"app:read", resource in App::"main/argocd/toys");
"""
)
PROD, DEV = environment("prod", strict=True), environment("dev", strict=False)
SHOP, TOYS = app("shop", PROD), app("toys", DEV)
DANA, VERA = person("dana", "developer"), person("vera", "viewer")
AMY = replace(person("amy", "approver", agent="", channel=Channel.PAGES), binding=Binding.SESSION)
MORNING = 1_790_000_000


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


def make_set(folder: Path, policies: str) -> Path:
    folder.mkdir()
    (folder / "all.cedar").write_text(policies)
    return folder


def engine_of(folder: Path, surroundings: Surroundings = TRUSTING) -> Engine:
    return Engine(read_policies(folder)[0], surroundings=surroundings)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings lie about; those of a test trust every agent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arborgate.yaml").write_text('{"agents": {"trusted": ["*"]}}')


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_set(tmp_path / "old", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return make_set(tmp_path / "new", NEW)


async def write_work(tmp_path: Path, old: Path) -> Path:
    logged_in = replace(AMY, authenticated_at=MORNING)
    approving = Question(
        logged_in, Action.PROPOSAL_APPROVE, (proposal(SHOP, DANA),), ((("applied_today", 2),),), MORNING + 1_200
    )
    path = await write_past(
        tmp_path / "log",
        engine_of(old),
        [
            ask(DANA, Action.REDIS_READ_VALUE, keyspace(SHOP)),
            ask(VERA, Action.APP_LIST, INSTALLATION),
            ask(VERA, Action.APP_READ, TOYS),
            ask(VERA, Action.APP_READ, TOYS),
            approving,
        ],
    )
    return path.parent


async def test_a_denial_on_record_is_explained_with_what_it_hung_on(tmp_path: Path, old: Path) -> None:
    log = await write_work(tmp_path, old)

    result = run("explain", "--record", "latest", "--caller", "Dana", "--dir", log, "--policies", old)

    assert result.exit_code == 0
    assert re.sub(r"[0-9a-f]{12}\b|\d{4}-\d\d-\d\dT\S+", "…", result.stdout) == (
        "record   serve-1:9, call:denied, …\n"
        "who      Dana (https://issuer.example#dana), roles: developer\n"
        "         groups: staff\n"
        "through  mcp, copilot, bearer\n"
        "what     redis:read_value (read_sensitive), by the tool redis_read\n"
        "of       Keyspace::main:shop: in App::main/argocd/shop in Environment::prod in Installation::arborgate\n"
        "then     denied, by the set …\n"
        "again    denied: no policy permits it\n"
        "         by the same set, with the agents and the calendar of the settings, which have not changed\n"
        "today    the same\n"
        "nearest  developers-read-values would permit it, but for this:\n"
        "         old/all.cedar:7:10: holds: context.strict is true\n"
        "             unless { context.strict };\n"
        "                      ^^^^^^^^^^^^^^\n"
    )


async def test_what_would_be_decided_otherwise_now_is_told_with_the_text_of_the_policy(
    tmp_path: Path, old: Path, new: Path
) -> None:
    log = await write_work(tmp_path, old)

    told = run("explain", "--record", "serve-1:9", "--dir", log, "--policies", new).stdout

    assert "then     denied, by the set" in told
    assert (
        "again    allowed: permitted by\n         developers-read-values  new/all.cedar:5:1\n         by the set"
        in told
    )
    assert 'policy   new/all.cedar:5:1\n         @id("developers-read-values")\n         permit (' in told
    assert "nearest" not in told


async def test_a_policy_that_is_gone_is_said_to_be(tmp_path: Path, old: Path) -> None:
    log = await write_work(tmp_path, old)
    bare = make_set(tmp_path / "bare", '@id("nobody") forbid (principal, action, resource);')

    told = run("explain", "--record", "latest", "--tool", "app_get", "--dir", log, "--policies", bare).stdout

    assert "then     allowed, by the set" in told
    assert "         viewers-read  (not in this set)\n" in told
    assert "because  nobody forbids it:\n         it has no conditions\n" in told


async def test_a_login_is_judged_as_old_as_it_was(tmp_path: Path, old: Path) -> None:
    log = await write_work(tmp_path, old)

    told = run("explain", "--record", "latest", "--caller", AMY.key, "--dir", log, "--policies", old).stdout

    assert "through  pages, no agent that anybody named, session, logged in 20m before\n" in told
    assert "(applied_today 2)\n" in told
    assert "today    the same\n" in told
    assert "old/all.cedar:11:8: does not hold: context.login_age is 1200\n" in told


async def test_settings_that_changed_since_are_named(tmp_path: Path, old: Path) -> None:
    strangers = make_set(
        tmp_path / "strangers",
        OLD + '@id("no-strangers") forbid (principal, action, resource) unless { context.trust == "trusted" };',
    )
    asked = [ask(VERA, Action.APP_READ, TOYS)]
    path = await write_past(tmp_path / "log", engine_of(strangers, Surroundings(Agents(trusted=("ide",)))), asked)

    told = run("explain", "--record", "latest", "--dir", path, "--caller", "Vera", "--policies", strangers).stdout

    assert "again    denied: forbidden by" in told
    assert "with the settings as they were then; changed since: agents\n" in told
    assert "today    allowed: permitted by\n" in told


async def test_settings_that_are_not_on_record_are_said_to_be_those_of_today(tmp_path: Path, old: Path) -> None:
    async with AuditLog.open(tmp_path / "log", "serve-1") as log:
        await write(log, engine_of(old), [ask(VERA, Action.APP_READ, TOYS)])

    told = run("explain", "--record", "serve-1:6", "--dir", log.path, "--policies", old).stdout

    assert "calendar of today's settings, since those of then are not on record\n" in told


async def test_of_a_record_without_facts_is_said_how_far_one_can_tell(tmp_path: Path, old: Path) -> None:
    engine, asked = engine_of(old), ask(VERA, Action.APP_READ, TOYS)
    async with AuditLog.open(tmp_path / "log", "serve-1") as log:
        await log.write(replace(entry_of(asked, engine.answer(asked), engine.digest), question=None))
        await log.write(replace(entry_of(asked, engine.answer(asked), "another"), question=None))

    same = run("explain", "--record", "serve-1:2", "--dir", log.path, "--policies", old).stdout
    other = run("explain", "--record", "serve-1/3", "--dir", log.path, "--policies", old).stdout

    assert "again    can't be told: its facts are not in this log (an older version wrote it)\n" in same
    assert "viewers-read  old/all.cedar:2:1\n" in same
    assert "The policies are the same now, so only the caller, the resource or the settings could differ.\n" in same
    assert "The policies are others now (" in other


async def test_what_was_redacted_is_not_guessed(tmp_path: Path, old: Path) -> None:
    async with AuditLog.open(tmp_path / "log", "serve-1", lambda text: text.replace("toys", "(redacted)")) as log:
        await write(log, engine_of(old), [ask(VERA, Action.APP_READ, TOYS)])

    told = run("explain", "--record", "latest", "--dir", log.path, "--tool", "app_get", "--policies", old).stdout

    assert "again    can't be told: what these policies look at was redacted in the record\n" in told


async def test_a_record_is_found_by_its_trace_id(tmp_path: Path, old: Path) -> None:
    engine, asked = engine_of(old), ask(VERA, Action.APP_READ, TOYS)
    async with AuditLog.open(tmp_path / "log", "serve-1") as log:
        for trace in ("a" * 32, "b" * 32):
            await log.write(replace(entry_of(asked, engine.answer(asked), engine.digest), trace_id=trace))

    told = run("explain", "--record", "a" * 32, "--dir", log.path.parent, "--policies", old).stdout

    assert told.startswith("record   serve-1:6, ")


async def test_a_record_that_is_not_there_and_a_log_that_was_changed_exit_2(tmp_path: Path, old: Path) -> None:
    log = await write_work(tmp_path, old)
    absent = run("explain", "--record", "serve-1:999", "--dir", log, "--policies", old)
    assert (absent.exit_code, "No decision like that" in absent.stderr) == (2, True)

    file = log / "serve-1.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"decision":"deny"', b'"decision":"okay"'))
    for command in (("explain", "--record", "latest", "--dir", log), ("diff", old, old, "--record", log)):
        broken = run(*command)
        assert broken.exit_code == 2
        assert "serve-1.jsonl: line 9: the hash does not cover the line" in broken.stderr


async def test_a_comparison_shows_what_opens_first_and_exits_1(tmp_path: Path, old: Path, new: Path) -> None:
    log = await write_work(tmp_path, old)

    result = run("diff", old, new, "--record", log)

    assert result.exit_code == 1
    assert re.sub(r"\d{4}-\d\d-\d\dT\S+?(?=,|\s)|\d+(?= questions| decided the)", "…", result.stdout) == (
        "NEWLY ALLOWED\n"
        "  Dana (https://issuer.example#dana) through mcp, copilot\n"
        "  redis:read_value of Keyspace::main:shop: in App::main/argocd/shop in Environment::prod in "
        "Installation::arborgate\n"
        "           once, …, as serve-1:9\n"
        "    old    denied: no policy permits it\n"
        "    new    allowed: permitted by\n"
        "           developers-read-values  new/all.cedar:5:1\n"
        "\n"
        "newly denied\n"
        "  Vera (https://issuer.example#vera) through mcp, copilot\n"
        "  app:read of App::main/argocd/toys in Environment::dev in Installation::arborgate\n"
        "           2 times, …, as serve-1:15\n"
        "    old    allowed: permitted by\n"
        "           viewers-read  old/all.cedar:2:1\n"
        "    new    denied: forbidden by\n"
        "           toys-are-closed  new/all.cedar:13:1\n"
        "  1 app no longer visible to Vera (https://issuer.example#vera) through mcp, copilot\n"
        "           main/argocd/toys\n"
        "\n"
        "cases    … questions, … decided the same, 0 newly allowed, 0 newly denied\n"
        "records  5 decided again, 2 the same, 1 newly allowed, 2 newly denied\n"
        "lists    1 caller of lists, 2 apps on record: 1 would be shown others\n"
    )


async def test_equal_sets_differ_in_nothing_and_exit_0(tmp_path: Path, old: Path) -> None:
    log = await write_work(tmp_path, old)

    result = run("diff", old, old, "--record", log)

    assert result.exit_code == 0
    assert "NEWLY ALLOWED" not in result.stdout
    assert "records  5 decided again, 5 the same, 0 newly allowed, 0 newly denied\n" in result.stdout


async def test_exit_zero_is_for_looking(tmp_path: Path, old: Path, new: Path) -> None:
    assert run("diff", old, new, "--record", await write_work(tmp_path, old), "--exit-zero").exit_code == 0


async def test_a_comparison_for_programs_tells_the_same(tmp_path: Path, old: Path, new: Path) -> None:
    log = await write_work(tmp_path, old)

    told = json.loads(run("diff", old, new, "--record", log, "--format", "json").stdout)

    assert {name: told["records"][name] for name in ("replayed", "same", "newly_allowed", "newly_denied")} == {
        "replayed": 5,
        "same": 2,
        "newly_allowed": 1,
        "newly_denied": 2,
    }
    opened, closed = told["records"]["flips"]
    assert (opened["caller"], opened["action"], opened["count"], opened["new"]["allowed"]) == (
        DANA.key,
        "redis:read_value",
        1,
        True,
    )
    assert closed["new"]["policies"] == {"toys-are-closed": f"{new}/all.cedar:13:1"}
    assert told["lists"]["flips"][0]["no_longer_visible"] == ["main/argocd/toys"]


async def test_what_can_not_be_decided_again_is_counted_with_the_reason(tmp_path: Path, old: Path) -> None:
    engine, asked = engine_of(old), ask(VERA, Action.APP_READ, TOYS)
    async with AuditLog.open(tmp_path / "log", "serve-1") as log:
        await log.write(replace(entry_of(asked, engine.answer(asked), engine.digest), question=None))

    told = run("diff", old, old, "--record", log.path).stdout

    assert "1 not decided again: 1 its facts are not in this log (an older version wrote it)\n" in told


async def test_the_window_leaves_older_records_out(tmp_path: Path, old: Path, new: Path) -> None:
    log = await write_work(tmp_path, old)

    assert "records  0 decided again" in run("diff", old, new, "--record", log, "--until", "1d").stdout
    assert "records  5 decided again" in run("diff", old, new, "--record", log, "--since", "1h").stdout
    assert run("diff", old, new, "--record", log, "--since", "yesterday").exit_code == 2


def test_sets_that_do_not_load_are_told_with_their_mistakes(tmp_path: Path, old: Path) -> None:
    wrong = make_set(tmp_path / "wrong", OLD.replace("context.strict", "context.strickt"))

    result = run("diff", wrong, old)

    assert result.exit_code == 2
    assert f"{wrong} can't be loaded by this version:\n" in result.stderr
    assert "all.cedar:7:" in result.stderr


def test_cases_alone_are_compared_without_a_record(tmp_path: Path, old: Path, new: Path) -> None:
    (old / "cases").mkdir()
    (old / "cases/all.yaml").write_text(
        """
world:
  environments: {prod: {strict: true}}
  apps: {main/argocd/shop: {environment: prod}}
  keyspaces: {"main:shop:": {app: main/argocd/shop}}
people:
  dana: {roles: [developer]}
cases:
  - {who: dana, may_not: "redis:read_value", of: "Keyspace::main:shop:", by: nothing, why: Customers.}
"""
    )

    result = run("diff", old, new)

    assert result.exit_code == 1
    assert (
        "NEWLY ALLOWED\n  case     dana (mcp, copilot) may not redis:read_value on Keyspace::main:shop:\n"
        in result.stdout
    )
    assert "           old/cases/all.yaml:9:5\n" in result.stdout
    assert "records  none; --record compares what is on record too\n" in result.stdout


async def test_many_differences_are_cut_and_counted(tmp_path: Path, old: Path, new: Path) -> None:
    others = [person(name, "developer") for name in ("mona", "nora", "olga")]
    asked = [ask(each, Action.REDIS_READ_VALUE, keyspace(SHOP)) for each in others]
    path = await write_past(tmp_path / "log", engine_of(old), asked)

    told = run("diff", old, new, "--record", path, "--most", "2").stdout

    assert told.count("redis:read_value of") == 2
    assert "  and 1 more like these (--most)\n" in told


async def test_facts_are_shown_where_they_are_asked_for_alone(tmp_path: Path, old: Path) -> None:
    log = await write_work(tmp_path, old)
    plain = CliRunner().invoke(record_commands, ["search", str(log)]).stdout
    asked = CliRunner().invoke(record_commands, ["search", str(log), "--event", "facts"]).stdout
    tail = CliRunner().invoke(record_commands, ["tail", str(log), "-n", "50"]).stdout

    assert "facts:noted" not in plain + tail
    assert asked.count("facts:noted") == 11
    assert CliRunner().invoke(record_commands, ["verify", str(log)]).exit_code == 0
