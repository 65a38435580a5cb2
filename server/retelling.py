"""A decision on record, decided again: as it was then, and as it would be at this minute."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ..policies.engine import Engine, LoadedPolicies
from ..policies.facts import Unreadable
from ..policies.model import Decision, Question
from ..policies.nearness import find_attributes
from ..policies.surroundings import Surroundings
from ..tools.record import Record
from .replay import Archive, Past, is_decision

REDACTED = "what these policies look at was redacted in the record"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which record: `ref` is `replica:number` (as `record_search` tells it, `replica/number`) or a trace id, `latest` the
    newest that fits the rest: a person's name or key, a tool, a moment it is not older than (as records write it)."""

    ref: str
    caller: str = ""
    tool: str = ""
    since: str = ""

    def mark(self) -> str:
        """A text that the record's line must hold."""
        if self.ref != "latest":
            _, number = self._place()
            return f'"seq":{number},' if number else self.ref
        return f'"tool":"{self.tool}"' if self.tool else ""

    def fits(self, record: Record) -> bool:
        if not is_decision(record):
            return False
        if self.ref != "latest":
            replica, number = self._place()
            return (record.replica, str(record.seq)) == (replica, number) or record.trace_id == self.ref
        return (
            self.caller in ("", record.caller, record.caller_name)
            and self.tool in ("", record.tool)
            and record.time >= self.since
        )

    def _place(self) -> tuple[str, str]:
        replica, _, number = self.ref.replace("/", ":").rpartition(":")
        return (replica, number) if replica and number.isdigit() else ("", "")


@dataclass(frozen=True, slots=True)
class Retold:
    """A record's `question`, None where the record does not hold it; what these policies say of it with what the settings
    were then (`again`) and as of now (`today`), by `engine`; None where it can't be told, for the reason `untold`.

    `changed` names the settings that are others now; None where those of then are not on record."""

    record: Record
    same_set: bool
    question: Question | None = None
    engine: Engine | None = None
    again: Decision | None = None
    today: Decision | None = None
    changed: tuple[str, ...] | None = None
    untold: str = ""


def retell(past: Past, archive: Archive, loaded: LoadedPolicies, today: Surroundings, now: float) -> Retold:
    """Decides again by these policies. `today` is what the settings tell them now, `now` in seconds since the epoch."""
    record, same = past.record, past.record.policy_set == loaded.digest
    try:
        question = archive.question(record)
        redacted = archive.hides(record, find_attributes(loaded.statements.values()))
    except Unreadable as error:
        return Retold(record, same, untold=str(error))
    if redacted:
        return Retold(record, same, question, untold=REDACTED)
    around = archive.surroundings(past.settings)
    engine = Engine(loaded, surroundings=around or today)
    return Retold(
        record,
        same,
        question,
        engine,
        again=engine.answer(question),
        today=_answer_today(loaded, today, question, now),
        changed=None if around is None else _find_changed(around, today),
    )


def _answer_today(loaded: LoadedPolicies, today: Surroundings, question: Question, now: float) -> Decision:
    """The same question at this minute, after a login as long ago as it was then."""
    caller = question.caller
    if question.at and caller.authenticated_at:
        caller = replace(caller, authenticated_at=int(now - (question.at - caller.authenticated_at)))
    return Engine(loaded, surroundings=today).answer(replace(question, caller=caller, at=now))


def _find_changed(around: Surroundings, today: Surroundings) -> tuple[str, ...]:
    return tuple(each.name for each in fields(Surroundings) if getattr(around, each.name) != getattr(today, each.name))
