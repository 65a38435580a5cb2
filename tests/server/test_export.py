"""`arborgate record export`: what leaves is what is on record, in order, safe to open and as the formats say."""

import asyncio
import csv
import io
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from arborgate.policies.engine import Engine
from arborgate.policies.loader import read_policies
from arborgate.policies.model import INSTALLATION, Action
from arborgate.server.audit import AuditLog, Upkeep
from arborgate.server.chain import GENESIS, read_records, seal_line, verify
from arborgate.server.cli_record import commands
from arborgate.server.export import COLUMNS
from arborgate.server.ocsf import describe_event
from arborgate.tools.record import Entry, Event, Record
from tests.policies.writing import person
from tests.server.pasts import ask, write
from tests.server.test_audit import write_some
from tests.server.test_log_files import files_of, write_files

# The required attributes, and the constraints, of the classes that are written: https://github.com/ocsf/ocsf-schema,
# branch v1.8.0, events/base_event.json, events/iam/{authentication,authorize_session,entity_management}.json,
# events/application/api_activity.json; of their objects: objects/{metadata,product,actor,api,request,user,_entity,
# managed_entity,network_endpoint}.json.
OF_ALL = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
REQUIRED = {
    0: set[str](),
    3002: {"user"},
    3003: {"user"},
    3004: {"entity"},
    6003: {"actor", "api", "src_endpoint"},
}
ACTIVITIES = {
    0: {0, 99},
    3002: {0, 1, 2, 3, 4, 5, 6, 7, 99},
    3003: {0, 1, 2, 99},
    3004: {*range(14), 99},
    6003: {0, 1, 2, 3, 4, 99},
}
ONE_OF: Mapping[str, set[str]] = {
    "actor": {"process", "user", "invoked_by", "session", "app_name", "app_uid"},
    "user": {"account", "name", "uid"},
    "entity": {"name", "uid", "device", "group", "org", "policy", "user"},
    "src_endpoint": {"ip", "uid", "name", "hostname", "svc_name", "instance_uid", "interface_uid", "interface_name"},
    "product": {"name", "uid"},
    "service": {"name", "uid"},
}
FULL = Record(
    event=Event.CALL_ANSWERED,
    caller="https://i.example#ada",
    caller_name="Ada",
    agent="copilot",
    actors=("bridge",),
    itself=False,
    binding="dpop",
    channel="mcp",
    tool="app_get",
    action="app:read",
    resource="App::main/argocd/shop",
    arguments_digest="ab",
    decision="allow",
    policies=("team-reads",),
    policy_set="cd",
    outcome="ok",
    detail="told",
    took_us=2_500,
    bytes=12,
    redactions=1,
    proposal="p-1",
    trace_id="t-1",
    seq=7,
    time="2026-11-21T15:27:11.004518Z",
    replica="serve-1",
    prev="p",
    hash="h",
)


def export(log: Path, *options: str) -> Result:
    return CliRunner().invoke(commands, ["export", str(log), *options])


def rows_of(exported: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported.stdout_bytes.decode(), newline="")))


def write_records(path: Path, entries: list[Entry], replica: str = "serve-1") -> None:
    lines, prev = [], GENESIS
    for seq, entry in enumerate(entries, start=1):
        time = f"2026-11-21T15:00:{seq:02}.000000Z"
        line, prev = seal_line(entry, seq=seq, time=time, replica=replica, prev=prev)
        lines.append(line)
    path.write_bytes(b"".join(lines))


def test_json_lines_are_those_of_the_log_and_still_prove_themselves(tmp_path: Path) -> None:
    paths = asyncio.run(write_files(tmp_path, 30))
    out = tmp_path / "out"
    assert export(tmp_path, "--out", str(out)).exit_code == 0
    assert out.read_bytes() == b"".join(path.read_bytes() for path in paths)
    assert verify(out).whole
    assert out.stat().st_mode & 0o777 == 0o600
    assert export(tmp_path).stdout_bytes == out.read_bytes()


def test_the_records_of_several_replicas_come_in_order_of_time(tmp_path: Path) -> None:
    for replica in ("a", "b"):
        asyncio.run(write_some(tmp_path, 3, replica))
        asyncio.run(write_files(tmp_path, 20, replica="c"))
    times = [json.loads(line)["time"] for line in export(tmp_path).stdout.splitlines()]
    assert times == sorted(times)
    assert len(times) == sum(len(list(read_records(path))) for path in tmp_path.glob("*.jsonl"))


def test_a_window_of_time_is_exported_alone(tmp_path: Path) -> None:
    write_records(tmp_path / "serve-1.jsonl", [Entry(event=Event.CALL_ANSWERED, tool=f"t-{n}") for n in range(9)])
    window = ("--since", "2026-11-21T15:00:03Z", "--until", "2026-11-21T15:00:05Z", "--format", "csv")
    assert [row["seq"] for row in rows_of(export(tmp_path, *window))] == ["3", "4", "5"]
    assert export(tmp_path, "--since", "yesterday-ish").exit_code == 2


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_of_the_csv_is_taken_for_a_formula(tmp_path: Path, first: str) -> None:
    evil = f'{first}HYPERLINK("http://x.example",1),"\r\n2'
    entry = Entry(event=Event.CALL_FAILED, caller_name=evil, actors=(evil, "b"), detail=evil, resource=evil)
    write_records(tmp_path / "serve-1.jsonl", [entry])
    (row,) = rows_of(export(tmp_path, "--format", "csv"))
    assert [row[name] for name in ("caller_name", "detail", "resource")] == [f"'{evil}"] * 3
    assert row["actors"] == f"'{evil} b"


def test_the_csv_has_one_header_and_every_field_of_a_record(tmp_path: Path) -> None:
    told = {each.name for each in fields(Record)} - {"question", "surroundings", "facts"}
    assert set(COLUMNS) == told
    asyncio.run(write_some(tmp_path, 2))
    header, *rows = csv.reader(io.StringIO(export(tmp_path, "--format", "csv").stdout_bytes.decode(), newline=""))
    assert tuple(header) == COLUMNS
    assert {len(row) for row in rows} == {len(COLUMNS)}


def test_facts_leave_with_the_json_lines_alone(tmp_path: Path) -> None:
    async def decide() -> None:
        async with AuditLog.open(tmp_path, "serve-1", upkeep=Upkeep(rotate_bytes=4_000)) as log:
            await write(log, Engine(read_policies(None)[0]), [ask(person("vera"), Action.CALLER_READ, INSTALLATION)])

    asyncio.run(decide())
    assert "facts:noted" in export(tmp_path).stdout
    assert "facts:noted" not in export(tmp_path, "--format", "csv").stdout
    assert "facts:noted" not in export(tmp_path, "--format", "ocsf").stdout
    (row,) = (row for row in rows_of(export(tmp_path, "--format", "csv")) if row["asker"])
    assert row["places"]


def check(event: dict[str, Any]) -> None:
    """Holds an event to what its class requires."""
    uid = event["class_uid"]
    assert set(event) >= OF_ALL | REQUIRED[uid]
    assert event["activity_id"] in ACTIVITIES[uid]
    assert event["category_uid"] == uid // 1_000
    assert event["type_uid"] == uid * 100 + event["activity_id"]
    assert event["severity_id"] in range(7)
    assert isinstance(event["time"], int)
    assert event["metadata"]["version"] == "1.8.0"
    objects = {**event, "product": event["metadata"]["product"]}
    for name, one_of in ONE_OF.items():
        assert name not in objects or {key for key, value in objects[name].items() if value} & one_of, name
    if "api" in event:
        assert event["api"]["operation"]
        assert event["api"]["request"]["uid"]
    if uid == 3002:
        assert "service" in event or "dst_endpoint" in event
    if uid == 3003:
        assert ("privileges" in event) != ("group" in event)
    if event["status_id"] == 99:
        assert event["status"]


@pytest.mark.parametrize("event", Event)
def test_every_kind_of_record_is_an_event_that_its_class_allows(tmp_path: Path, event: Event) -> None:
    named = {each.name: getattr(FULL, each.name) for each in fields(Entry)}
    write_records(tmp_path / "serve-1.jsonl", [Entry(**{**named, "event": event}), Entry(event=event)])
    told = [json.loads(line) for line in export(tmp_path, "--format", "ocsf").stdout.splitlines()]
    assert len(told) == (0 if event is Event.FACTS_NOTED else 2)
    for one in told:
        check(one)
        assert one["metadata"]["event_code"] == event
    # Nothing of the record is lost, in whichever class it is told.
    for name in ("tool", "action", "resource", "proposal", "detail", "policies", "caller", "agent"):
        value = getattr(FULL, name)
        assert not told or (value if isinstance(value, str) else value[0]) in json.dumps(told[0])


def test_a_call_is_an_api_activity_field_by_field() -> None:
    assert describe_event(FULL) == {
        "activity_id": 2,
        "category_uid": 6,
        "class_uid": 6003,
        "type_uid": 600302,
        "severity_id": 1,
        "time": 1_795_274_831_004,
        "status": "Success",
        "status_id": 1,
        "status_code": "ok",
        "status_detail": "told",
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "Arborgate", "vendor_name": "Arborgate", "version": "0.1.0"},
            "event_code": "call:answered",
            "log_name": "serve-1",
            "original_time": "2026-11-21T15:27:11.004518Z",
            "sequence": 7,
            "uid": "serve-1:7",
            "correlation_uid": "t-1",
        },
        "message": "call:answered app_get app:read App::main/argocd/shop",
        "actor": {
            "app_uid": "copilot",
            "user": {"uid": "https://i.example#ada", "name": "Ada", "type_id": 1},
            "authorizations": [{"decision": "Allowed", "policy": {"uid": "team-reads"}}],
        },
        "api": {"operation": "app_get", "service": {"name": "Arborgate"}, "request": {"uid": "serve-1:7"}},
        "src_endpoint": {"name": "copilot"},
        "resources": [{"uid": "App::main/argocd/shop", "type": "App"}],
        "unmapped": {
            "action": "app:read",
            "actors": ("bridge",),
            "arguments_digest": "ab",
            "binding": "dpop",
            "bytes": 12,
            "channel": "mcp",
            "hash": "h",
            "policy_set": "cd",
            "prev": "p",
            "proposal": "p-1",
            "redactions": 1,
            "took_us": 2_500,
        },
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"event": Event.CALL_DENIED, "decision": "deny"}, (6003, 2, "Failure")),
        ({"event": Event.CALL_INTENDED, "action": "rollout:propose", "outcome": "intended"}, (6003, 1, "Intended")),
        ({"event": Event.CALL_FAILED, "outcome": "unavailable"}, (6003, 2, "Failure")),
        ({"event": Event.CALL_ANSWERED, "action": "no:more"}, (6003, 0, "Success")),
        ({"event": Event.SESSION_STARTED}, (3002, 1, "Success")),
        ({"event": Event.SESSION_ENDED}, (3002, 2, "Success")),
        ({"event": Event.CALLER_REJECTED, "outcome": "expired"}, (3002, 1, "Failure")),
        ({"event": Event.TOKEN_EXCHANGED}, (3003, 1, "Success")),
        ({"event": Event.PROPOSAL_APPROVED}, (3004, 3, "Success")),
        ({"event": Event.CALLER_DENIED}, (3004, 12, "Success")),
        ({"event": Event.PASSKEY_ENROLLED}, (3004, 6, "Success")),
        ({"event": Event.POLICY_KEPT}, (3004, 10, "Failure")),
        ({"event": Event.LOG_SIGNED}, (0, 99, "Success")),
    ],
)
def test_what_happened_is_told_by_class_activity_and_status(
    change: dict[str, Any], expected: tuple[int, int, str]
) -> None:
    named = {each.name: getattr(FULL, each.name) for each in fields(Record)}
    event = describe_event(Record(**{**named, **change}))
    assert (event["class_uid"], event["activity_id"], event["status"]) == expected


def test_a_changed_line_ends_the_export_and_leaves_no_file(tmp_path: Path) -> None:
    path = asyncio.run(write_some(tmp_path, 5))
    path.write_bytes(path.read_bytes().replace(b"app-3", b"app-9"))
    out = tmp_path / "out.csv"
    out.write_text("the last one")
    broken = export(tmp_path, "--format", "csv", "--out", str(out))
    assert broken.exit_code == 1
    assert "serve-1.jsonl: line 5: the hash does not cover the line" in broken.output
    assert out.read_text() == "the last one"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.csv", "serve-1.jsonl", "serve-1.lock"]


def test_a_place_that_cannot_be_written_to_is_said_plainly(tmp_path: Path) -> None:
    asyncio.run(write_some(tmp_path, 1))
    refused = export(tmp_path, "--out", str(tmp_path / "nowhere" / "out"))
    assert refused.exit_code == 2
    assert "can't be written: No such file or directory" in refused.output


def test_an_export_holds_no_more_of_a_log_than_a_few_lines(tmp_path: Path) -> None:
    import tracemalloc

    path = asyncio.run(write_some(tmp_path, 1))
    write_records_long(path, 20_000)
    tracemalloc.start()
    try:
        assert export(tmp_path, "--format", "ocsf", "--out", str(tmp_path / "out")).exit_code == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 2


def write_records_long(path: Path, count: int) -> None:
    prev = GENESIS
    with path.open("wb") as file:
        for seq in range(1, count + 1):
            entry = Entry(event=Event.CALL_ANSWERED, tool="app_get", detail="x" * 200)
            line, prev = seal_line(entry, seq=seq, time="2026-11-21T15:00:00.000000Z", replica="r", prev=prev)
            file.write(line)


def test_what_was_redacted_stays_so(tmp_path: Path) -> None:
    async def record() -> None:
        async with AuditLog.open(tmp_path, "serve-1", lambda text: text.replace("hunter2", "(redacted)")) as log:
            await log.write(Entry(event=Event.CALL_FAILED, detail="the password hunter2"))

    asyncio.run(record())
    for form in ("jsonl", "csv", "ocsf"):
        told = export(tmp_path, "--format", form).stdout
        assert "hunter2" not in told
        assert "(redacted)" in told
    assert len(files_of(tmp_path)) == 1
