"""The gate under hostile arguments, cancellations and denials late in a call."""

import asyncio
from pathlib import Path
from typing import Any, NoReturn

import pytest

from arborgate.policies.errors import Denied, Reason
from arborgate.server.redaction import Redactor
from arborgate.tools.record import Entry, Event, Record
from arborgate.tools.tool import Context
from tests.server.test_gate import Asked, Told, make_tool, open_world

pytestmark = pytest.mark.anyio


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        {"app": "api", "\ud800": 1},
        {"app": "\ud800"},
        {"app": "api", "note": 2**70},
        {"app": "api", "note": float("nan")},
        {"app": "api", "note": nested(900)},
        {"app": "api", "note": nested(5_000)},
    ],
    ids=["half-character-name", "half-character", "big-number", "not-a-number", "deep", "deeper"],
)
async def test_arguments_that_are_no_proper_json_are_refused_and_on_record(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    async with open_world(tmp_path) as world:
        error = (await world.call(arguments)).error
        (record,) = world.records()
    assert error is not None
    assert error.reason is Reason.INVALID
    assert (record.event, record.outcome) == (Event.CALL_FAILED, "invalid")


async def test_words_that_can_not_be_redacted_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Redactor, _text: object) -> NoReturn:
        raise IndexError("of a secret")

    monkeypatch.setattr(Redactor, "clean", fail)
    monkeypatch.setattr(Redactor, "clean_text", fail)
    async with open_world(tmp_path) as world:
        error = (await world.call()).error
        record = world.records()[-1]
    assert error is not None
    assert (error.reason, error.message) == (Reason.INTERNAL, "Something failed inside Arborgate; it is on record.")
    assert "secret" not in f"{error.hint}{error.detail}{error.args}"
    assert record.event is Event.CALL_FAILED


async def test_a_call_has_one_outcome_on_record_even_when_it_is_cancelled_at_its_end(tmp_path: Path) -> None:
    ended = asyncio.Event()
    written: list[Event] = []

    class Slow:
        async def write(self, entry: Entry) -> Record:
            written.append(entry.event)
            if not ended.is_set():
                ended.set()
                await asyncio.Event().wait()
            return Record(seq=1, time="", replica="", prev="", hash="", event=entry.event)

    async with open_world(tmp_path, recorder=Slow()) as world:
        call = asyncio.create_task(world.call())
        await ended.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert written == [Event.CALL_ANSWERED]


async def test_a_denial_inside_a_tool_is_recorded_as_one(tmp_path: Path) -> None:
    async def run(_ctx: Context, _params: Asked) -> Told:
        raise Denied("No policy allows it.")

    async with open_world(tmp_path, make_tool(run)) as world:
        await world.call()
        (record,) = world.records()
    assert (record.event, record.outcome) == (Event.CALL_DENIED, "denied")
