"""One line of the audit log as a tool sees it, and how it is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from ..policies.model import Attribute, Caller, Decision, Question
from ..policies.surroundings import Surroundings


class Event(StrEnum):
    """Everything that is recorded, `<thing>:<past verb>`."""

    CALL_ANSWERED = "call:answered"
    CALL_DENIED = "call:denied"
    CALL_FAILED = "call:failed"
    CALL_INTENDED = "call:intended"
    CALLER_ADMITTED = "caller:admitted"
    CALLER_DENIED = "caller:denied"
    CALLER_LIMITED = "caller:limited"
    CALLER_REJECTED = "caller:rejected"
    CHANGE_APPLIED = "change:applied"
    CHANGE_STARTED = "change:started"
    CHANGE_STUCK = "change:stuck"
    CHANGE_UNDONE = "change:undone"
    FACTS_NOTED = "facts:noted"
    GLASS_BROKEN = "glass:broken"
    GLASS_REVIEWED = "glass:reviewed"
    LOG_CONTINUED = "log:continued"
    LOG_OPENED = "log:opened"
    LOG_SEALED = "log:sealed"
    LOG_SIGNED = "log:signed"
    NOTIFICATION_CHOSEN = "notification:chosen"
    NOTIFICATION_FAILED = "notification:failed"
    NOTIFICATION_SENT = "notification:sent"
    PAGE_SHOWN = "page:shown"
    PARENT_ANSWERED = "parent:answered"
    PARENT_ASKED = "parent:asked"
    PARENT_REFUSED = "parent:refused"
    PASSKEY_ENROLLED = "passkey:enrolled"
    PASSKEY_REMOVED = "passkey:removed"
    POLICY_KEPT = "policy:kept"
    POLICY_LOADED = "policy:loaded"
    PROPOSAL_ABORTED = "proposal:aborted"
    PROPOSAL_APPLIED = "proposal:applied"
    PROPOSAL_APPLYING = "proposal:applying"
    PROPOSAL_APPROVED = "proposal:approved"
    PROPOSAL_DRAFTED = "proposal:drafted"
    PROPOSAL_EXPIRED = "proposal:expired"
    PROPOSAL_FAILED = "proposal:failed"
    PROPOSAL_PAUSED = "proposal:paused"
    PROPOSAL_PROPOSED = "proposal:proposed"
    PROPOSAL_REFUSED = "proposal:refused"
    PROPOSAL_REJECTED = "proposal:rejected"
    PROPOSAL_RELEASED = "proposal:released"
    PROPOSAL_RESUMED = "proposal:resumed"
    PROPOSAL_ROLLED_BACK = "proposal:rolled_back"
    PROPOSAL_STALE = "proposal:stale"
    PROPOSAL_WITHDRAWN = "proposal:withdrawn"
    SESSION_ENDED = "session:ended"
    SESSION_STARTED = "session:started"
    TOKEN_EXCHANGED = "token:exchanged"  # noqa: S105  # an event, no password


def is_of(event: str, asked: str) -> bool:
    """Whether an event is what a search asks for: the event itself, its thing (`proposal`: all of its events), or `""`."""
    return asked in ("", event) or event.startswith(f"{asked}:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a writer knows of one record. `took_us` is microseconds, `bytes` the size of what left, `arguments_digest`
    hexadecimal SHA-256 over the RFC 8785 form of the arguments. `itself`: an app or agent acted for itself, `agent` and
    `actors` for a person otherwise. Never a secret, never a full result.

    `question` is what the decision was made on, and `surroundings` what the settings tell a set of policies that was
    loaded: the log notes them as facts, and the record names those."""

    event: Event
    caller: str = ""
    caller_name: str = ""
    agent: str = ""
    actors: tuple[str, ...] = ()
    itself: bool = False
    binding: str = ""
    channel: str = ""
    tool: str = ""
    action: str = ""
    resource: str = ""
    arguments_digest: str = ""
    decision: str = ""
    policies: tuple[str, ...] = ()
    policy_set: str = ""
    outcome: str = ""
    detail: str = ""
    took_us: int = 0
    bytes: int = 0
    redactions: int = 0
    proposal: str = ""
    trace_id: str = ""
    question: Question | None = None
    surroundings: Surroundings | None = None


def name_caller(caller: Caller) -> dict[str, Any]:
    """The fields of an entry that say who acts, through whom, and how that is known."""
    return {
        "caller": caller.key,
        "caller_name": caller.name,
        "agent": caller.agent,
        "actors": caller.actors,
        "itself": caller.itself,
        "binding": caller.binding,
        "channel": caller.channel,
    }


class Judged(NamedTuple):
    """A decision, what it was made on, and the digest of the set that made it."""

    decision: Decision
    question: Question
    policy_set: str


def name_decision(
    decision: Decision | None, question: Question | None, policy_set: str, detail: str = ""
) -> dict[str, Any]:
    """The fields of an entry that say what was decided, by which policies of which set, and on what: the same at every
    door. What deciding failed by is told rather than the `detail`."""
    return {
        "decision": "" if decision is None else "allow" if decision.allowed else "deny",
        "policies": () if decision is None else decision.policies,
        "policy_set": policy_set,
        "detail": detail if decision is None or not decision.error else decision.error,
        "question": None if decision is None else question,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Entry):
    """One line of the audit log, design section 8. `time` is RFC 3339 UTC with microseconds; `hash` is hexadecimal
    SHA-256 over the line without it, which holds `prev`, the hash of the line before (zeros at the start).

    What a decision was made on is told by digests of facts (see `policies/facts.py`): `asker`, `places` in the order of
    the resources, and with policies that were loaded the `settings` around them. `context` (one for each resource) and
    `decided_at` (seconds since the epoch, where the decision depends on the moment) stand in the line itself. `facts` is
    the piece that a line of `facts:noted` holds, before the first line of the file that names it.

    `signature` is the statement of a line of `log:signed` or `log:sealed` about the line before it: a compact JWS
    (RFC 7515). `chain` is the hash of the chain's first line, in a line of `log:continued`, with which every later file
    of a log begins."""

    seq: int
    time: str
    replica: str
    prev: str
    hash: str
    asker: str = ""
    places: tuple[str, ...] = ()
    context: tuple[Mapping[str, Attribute], ...] = ()
    decided_at: float = 0.0
    settings: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    signature: str = ""
    chain: str = ""


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """What to search for; empty fields match all. `event` may be a thing (`proposal`): all of its events. Times are
    seconds since the epoch; `before` pages backwards. `decision` is `allow` or `deny`."""

    caller: str = ""
    agent: str = ""
    event: str = ""
    tool: str = ""
    resource: str = ""
    proposal: str = ""
    decision: str = ""
    since: float = 0.0
    until: float = 0.0
    before: str = ""
    limit: int = 20


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records newest first, and the position to go on from (`""` at the end)."""

    records: Sequence[Record]
    next: str


class Records(Protocol):
    """The searchable copy of the audit log, in a Redis stream."""

    async def search(self, query: RecordQuery) -> RecordPage:
        """Newest first; raises `Unavailable` when the state Redis does not answer."""
        ...
