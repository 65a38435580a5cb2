"""What redaction costs, clean texts and hostile ones, and what it finds, with detect-secrets beside it on the same text."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings
from tests.redaction.corpus import alike, missed, planted, spoiled
from tests.redaction.planted import draw_secrets
from tests.redaction.test_engine import HOSTILE

from arborgate.server.redaction import Redactor

from .report import Line, Part
from .world import build_world

_ROWS: Final = 40
_ROUNDS: Final = 7
_SIZES: Final = (16_000, 128_000)
_BESIDE: Final = "detect-secrets"


def measure_redacting(folder: Path) -> Part:
    """Microseconds per KB and MB/s of one core, medians of some rounds; shares of the corpus in percent."""
    redactor, peer = Redactor(), _Peer(folder)
    rows = list(build_world(_ROWS + 20))[-_ROWS:]
    letters = [{**row, "note": "größer – geprüft, 数据库 ✓"} for row in rows]
    odd = [{**row, "note": "zero\u200bwidth"} for row in rows]
    secrets = [secret for _, secret in draw_secrets(1) if "\n" not in secret]
    rich = [{**row, "note": f"retry with {secrets[at % len(secrets)]}"} for at, row in enumerate(rows)]
    with default_settings():
        return Part(
            "Redaction",
            [
                Line("clean JSON", _per_kb(redactor, rows), "µs/KB", at_most=12),
                Line("clean JSON with letters of other scripts", _per_kb(redactor, letters), "µs/KB", at_most=12),
                _beside(peer, "clean JSON", redactor, rows),
                _beside(peer, "each row with an invisible character", redactor, odd),
                _beside(peer, "each row with a secret", redactor, rich),
                *_hostile(redactor, peer),
                *_found(redactor, peer),
            ],
        )


class _Peer:
    """detect-secrets reads files; it is given YAML, which it knows how to read."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "text.yaml"

    def find(self, value: Any) -> int:
        """How many secrets it finds in the value."""
        self._write(value)
        return self._scan()

    def speed(self, value: Any) -> float:
        """MB/s, of one pass."""
        size = self._write(value)
        return size / _time(self._scan, rounds=1)

    def _write(self, value: Any) -> int:
        return self._file.write_text(yaml.safe_dump(value, width=1_000_000, allow_unicode=True), encoding="utf-8")

    def _scan(self) -> int:
        return sum(1 for _ in scan_file(str(self._file)))


def _beside(peer: _Peer, what: str, redactor: Redactor, value: Any) -> Line:
    ours, theirs = 1e3 / _per_kb(redactor, value) * 1.024, peer.speed(value)
    return Line(what, ours, "MB/s", beside=_BESIDE, theirs=theirs)


def _per_kb(redactor: Redactor, value: Any) -> float:
    return _time(lambda: redactor.clean(value)) / (len(orjson.dumps(value)) / 1_024)


def _hostile(redactor: Redactor, peer: _Peer) -> Iterator[Line]:
    """The slowest of the hostile texts, and the one whose cost per KB grows most with its length."""
    costs = {name: [_cost(redactor, make(size)) for size in _SIZES] for name, make in HOSTILE.items()}
    slowest = max(costs, key=lambda name: costs[name][1])
    steepest = max(costs, key=lambda name: costs[name][1] / costs[name][0])
    speed = peer.speed({"m": HOSTILE[slowest](_SIZES[0])})
    yield Line(
        f"hostile, the slowest ({slowest})", 1e3 / costs[slowest][1] * 1.024, "MB/s", beside=_BESIDE, theirs=speed
    )
    grows = costs[steepest][1] / costs[steepest][0]
    yield Line(f"hostile, eight times as long: cost per KB ({steepest})", grows, "times", at_most=2)


def _cost(redactor: Redactor, text: str) -> float:
    value = {"m": text}
    return _time(lambda: redactor.clean(value), rounds=3) / (len(text) / 1_024)


def _found(redactor: Redactor, peer: _Peer) -> Iterator[Line]:
    hidden, shown = list(planted()), list(alike())
    theirs = sum(bool(peer.find(one.value)) for one in hidden)
    wrong = sum(bool(peer.find(one.value)) for one in shown)
    recall = 100 * (1 - len(missed(redactor)) / len(hidden))
    false = 100 * len(spoiled(redactor)) / len(shown)
    yield Line("planted secrets found", recall, "%", beside=_BESIDE, theirs=100 * theirs / len(hidden))
    yield Line("look-alikes taken for secrets", false, "%", beside=_BESIDE, theirs=100 * wrong / len(shown), at_most=1)


def _time(work: Callable[[], object], *, rounds: int = _ROUNDS) -> float:
    """Microseconds of CPU of one call, the median; the first, which builds the automata, does not count."""
    if rounds > 1:
        work()
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1e6)
    return statistics.median(found)
