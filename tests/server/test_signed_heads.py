"""A signed log: what its key has vouched for can be neither shortened nor rewritten without being found out."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from joserfc import jws
from joserfc.jwk import OKPKey
from typer.testing import CliRunner, Result

from arborgate.policies.errors import BadConfiguration
from arborgate.server.approvals import new_signing_key
from arborgate.server.audit import AuditLog, Upkeep
from arborgate.server.chain import GENESIS, read_records, seal_line, verify
from arborgate.server.cli_record import commands
from arborgate.server.settings import RecordSettings
from arborgate.server.signed_heads import TYPE, SignedHead, head_file, open_head, sign_head
from arborgate.tools.record import Entry, Event, Record

pytestmark = pytest.mark.anyio

TEXTS = new_signing_key()
KEY, OTHER = (OKPKey.import_key(orjson.loads(text)) for text in (TEXTS[0], new_signing_key()[0]))
KEYS = {KEY.thumbprint(): KEY}


async def write_signed(
    directory: Path, count: int, replica: str = "serve-1", key: OKPKey | None = KEY, every: float = 3_600.0
) -> Path:
    async with AuditLog.open(directory, replica, upkeep=Upkeep(key, every)) as log:
        for number in range(count):
            await log.write(Entry(event=Event.CALL_ANSWERED, tool="app_get", resource=f"App::c/ns/app-{number}"))
        return log.path


def read(path: Path) -> list[Record]:
    return [record for record, _ in read_records(path)]


def prove(log: Path, *options: str) -> Result:
    """Verifies with the public key, as whoever proves a log would."""
    public = log.parent / "record.pub"
    public.write_text(TEXTS[1])
    return CliRunner().invoke(commands, ["verify", str(log), "--key", str(public), *options])


def rewrite(path: Path, change: Callable[[list[Record]], list[Record]]) -> None:
    """Rewrites a chain from its start as somebody without the key could: every hash is right."""
    lines, prev = [], GENESIS
    for seq, record in enumerate(change(read(path)), start=1):
        cited = {"signature": record.signature} if record.signature else {}
        line, prev = seal_line(record, seq=seq, time=record.time, replica=record.replica, prev=prev, cited=cited)
        lines.append(line)
    path.write_bytes(b"".join(lines))
    assert verify(path).whole


def cut(path: Path, lines: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))


async def test_a_log_is_signed_when_it_is_closed(tmp_path: Path) -> None:
    *_, before, last = read(await write_signed(tmp_path, 2))
    assert last.event is Event.LOG_SIGNED
    assert open_head(last.signature, KEYS) == SignedHead("serve-1", before.seq, before.hash, last.time)


async def test_the_head_is_signed_at_intervals_and_only_when_there_is_something_new(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1", upkeep=Upkeep(KEY, 0.01)) as log:
        written = asyncio.Event()
        log.on_written(written.set)
        async with asyncio.timeout(10):
            while read(log.path)[-1].event is not Event.LOG_SIGNED:
                await written.wait()
                written.clear()
        # Ten intervals in which nothing happens.
        await asyncio.wait([asyncio.ensure_future(written.wait())], timeout=0.1)
        assert [record.event for record in read(log.path)] == [Event.LOG_OPENED, Event.LOG_SIGNED]
    assert len(read(log.path)) == 2


async def test_a_log_without_a_key_is_as_it_was(tmp_path: Path) -> None:
    path = await write_signed(tmp_path, 2, key=None)
    assert Event.LOG_SIGNED not in {record.event for record in read(path)}
    assert not head_file(path).exists()


async def test_a_signature_shares_the_write_of_the_calls_that_come_with_it(tmp_path: Path) -> None:
    async with AuditLog.open(tmp_path, "serve-1", upkeep=Upkeep(KEY)) as log:
        entries = [Entry(event=Event.CALL_ANSWERED), Entry(event=Event.LOG_SIGNED), Entry(event=Event.CALL_ANSWERED)]
        batches: list[int] = []
        log.on_written(lambda: batches.append(1))
        await asyncio.gather(*(log.write(entry) for entry in entries))
        assert len(batches) == 1
    assert len([record for record in read(log.path) if record.signature]) == 2


def test_verify_says_up_to_which_line_and_moment_a_log_is_signed(tmp_path: Path) -> None:
    path = asyncio.run(write_signed(tmp_path, 3))
    signed = read(path)[-1]
    whole = prove(path)
    assert whole.exit_code == 0, whole.output
    assert f"whole, 5 records, head {signed.hash}, signed up to line 4 at {signed.time}\n" in whole.output
    asyncio.run(write_signed(tmp_path, 0, key=None))
    assert f"signed up to line 4 at {signed.time}, 1 record is newer" in prove(path).output


def test_a_chain_rewritten_from_its_start_is_found_by_its_signatures(tmp_path: Path) -> None:
    path = asyncio.run(write_signed(tmp_path, 3))
    head_file(path).unlink()
    rewrite(path, lambda records: [records[0], *records[2:]])
    found = prove(path)
    assert found.exit_code == 1
    assert "line 4: the signature is over another head" in found.output


def test_a_chain_rewritten_without_signatures_is_found(tmp_path: Path) -> None:
    path = asyncio.run(write_signed(tmp_path, 3))
    head_file(path).unlink()
    rewrite(path, lambda records: records[:-1])
    found = prove(path)
    assert found.exit_code == 1
    assert "nothing in it is signed by a key that was given" in found.output


def test_a_chain_signed_anew_by_another_key_is_found(tmp_path: Path) -> None:
    found = prove(asyncio.run(write_signed(tmp_path, 3, key=OTHER)))
    assert found.exit_code == 1
    assert "line 5: the signature is by a key that was not given" in found.output


def test_an_end_that_was_cut_off_is_found_by_the_head_beside_the_log(tmp_path: Path) -> None:
    asyncio.run(write_signed(tmp_path, 3))
    path = asyncio.run(write_signed(tmp_path, 3))
    cut(path, 7)
    found = prove(path)
    assert found.exit_code == 1
    assert "ends at line 7, but line 9 was the head of serve-1 at " in found.output
    # The same without a key: the statement is believed as it stands.
    assert CliRunner().invoke(commands, ["verify", str(path)]).exit_code == 1


def test_a_head_that_was_told_elsewhere_is_expected(tmp_path: Path) -> None:
    asyncio.run(write_signed(tmp_path, 3))
    path = asyncio.run(write_signed(tmp_path, 3))
    head = read(path)[7]
    kept = tmp_path / "kept-elsewhere"
    head_file(path).replace(kept)
    told = f"serve-1:8:{head.hash}"
    assert prove(path, "--expect", told, "--expect", str(kept)).exit_code == 0
    cut(path, 5)
    assert prove(path).exit_code == 0
    for expected in (told, str(kept)):
        assert "its end was cut off" in prove(path, "--expect", expected).output
    assert (
        "line 5 is not the line that was the head of serve-1" in prove(path, "--expect", f"serve-1:5:{'0' * 64}").output
    )
    missing = prove(path, "--expect", f"serve-2:5:{'0' * 64}")
    assert missing.exit_code == 1
    assert "serve-2: no log is here, but line 5 is expected" in missing.output


def test_an_expectation_that_is_none_is_said_plainly(tmp_path: Path) -> None:
    path = asyncio.run(write_signed(tmp_path, 1))
    (tmp_path / "nonsense").write_text("nonsense")
    for text in ("nowhere", str(tmp_path / "nonsense")):
        found = prove(path, "--expect", text)
        assert found.exit_code == 2
        assert "give replica:number:hash, or a *.head file" in found.output


def test_a_head_beside_the_log_that_nobody_signed_is_told(tmp_path: Path) -> None:
    path = asyncio.run(write_signed(tmp_path, 3))
    head = SignedHead("serve-1", 1, read(path)[0].hash, read(path)[0].time)
    head_file(path).write_text(sign_head(head, OTHER))
    found = prove(path)
    assert found.exit_code == 1
    assert "serve-1.head: the signature is by a key that was not given" in found.output


@pytest.mark.parametrize(
    ("header", "payload", "why"),
    [
        ({"typ": "arborgate-approval+jwt"}, {}, "of another type"),
        ({"typ": ""}, {}, "of another type"),
        ({"typ": TYPE}, {"seq": "1"}, "over no head"),
        ({"typ": TYPE}, {"more": 1}, "over no head"),
    ],
)
def test_only_a_statement_about_a_head_is_one(header: dict[str, str], payload: dict[str, object], why: str) -> None:
    whole = {"replica": "r", "seq": 1, "hash": "h", "time": "t", **payload}
    made = jws.serialize_compact(
        {"alg": "Ed25519", "kid": KEY.thumbprint(), **header}, json.dumps(whole), KEY, algorithms=["Ed25519"]
    )
    with pytest.raises(ValueError, match=why):
        open_head(made, KEYS)


@pytest.mark.parametrize("text", ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_signature_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="signature"):
        open_head(text, KEYS)


def test_a_signature_with_one_character_changed_does_not_hold() -> None:
    good = sign_head(SignedHead("r", 1, "h", "t"), KEY)
    head, payload, signature = good.split(".")
    with pytest.raises(ValueError, match="does not hold"):
        open_head(f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}", KEYS)


async def test_a_head_that_cannot_be_put_beside_the_log_stops_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "serve-1.head").mkdir()
    path = await write_signed(tmp_path, 1)
    assert read(path)[-1].signature
    assert "the signed head of serve-1.jsonl can't be written" in caplog.text


def test_only_a_private_key_signs(tmp_path: Path) -> None:
    public = tmp_path / "record.pub.jwk"
    public.write_text(TEXTS[1])
    with pytest.raises(BadConfiguration, match=r"record\.signing_key_file: .* holds a public key"):
        Upkeep.read(RecordSettings(signing_key_file=public))


def test_signed_heads_are_shown_where_they_are_asked_for(tmp_path: Path) -> None:
    asyncio.run(write_signed(tmp_path, 1))
    run = CliRunner()
    assert "log:signed" not in run.invoke(commands, ["tail", str(tmp_path)]).output
    assert "log:signed" in run.invoke(commands, ["search", str(tmp_path), "--event", "log:signed"]).output
