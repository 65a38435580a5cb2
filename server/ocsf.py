"""Records as events of the Open Cybersecurity Schema Framework, version 1.8.0 (https://schema.ocsf.io/1.8.0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from ..policies.model import Action, ActionGroup
from ..tools.record import Event, Record, is_of

VERSION: Final = "1.8.0"

_SERVICE: Final = {"name": "Arborgate"}
_PRODUCT: Final = {"name": "Arborgate", "vendor_name": "Arborgate", "version": version("arborgate")}

_BASE, _AUTHENTICATION, _SESSION, _ENTITY, _API = 0, 3002, 3003, 3004, 6003
_CATEGORIES: Final = {_BASE: 0, _AUTHENTICATION: 3, _SESSION: 3, _ENTITY: 3, _API: 6}
_CREATE, _READ, _UPDATE, _OTHER = 1, 2, 3, 99


class _Kind(NamedTuple):
    """A class of events, and which of its activities it is."""

    class_uid: int
    activity_id: int


_KINDS: Final[Mapping[Event, _Kind]] = {
    Event.CALLER_ADMITTED: _Kind(_ENTITY, 13),  # resume
    Event.CALLER_DENIED: _Kind(_ENTITY, 12),  # suspend
    Event.CALLER_REJECTED: _Kind(_AUTHENTICATION, 1),  # logon
    Event.CHANGE_APPLIED: _Kind(_API, _UPDATE),
    Event.CHANGE_STARTED: _Kind(_API, _UPDATE),
    Event.CHANGE_STUCK: _Kind(_API, _UPDATE),
    Event.CHANGE_UNDONE: _Kind(_API, _UPDATE),
    Event.PARENT_ANSWERED: _Kind(_API, _UPDATE),
    Event.PARENT_REFUSED: _Kind(_API, _UPDATE),
    Event.PASSKEY_ENROLLED: _Kind(_ENTITY, 6),  # enroll
    Event.PASSKEY_REMOVED: _Kind(_ENTITY, 7),  # unenroll
    Event.POLICY_LOADED: _Kind(_ENTITY, 10),  # activate
    Event.POLICY_KEPT: _Kind(_ENTITY, 10),
    Event.PROPOSAL_DRAFTED: _Kind(_ENTITY, _CREATE),
    Event.SESSION_ENDED: _Kind(_AUTHENTICATION, 2),  # logoff
    Event.SESSION_STARTED: _Kind(_AUTHENTICATION, 1),
    Event.TOKEN_EXCHANGED: _Kind(_SESSION, 1),  # assign privileges
}
_ACTIVITIES: Final = {
    ActionGroup.READ: _READ,
    ActionGroup.READ_SENSITIVE: _READ,
    ActionGroup.PROPOSE: _CREATE,
    ActionGroup.APPROVE: _UPDATE,
    ActionGroup.APPLY: _UPDATE,
    ActionGroup.DELEGATE: _CREATE,
}
_FAILURES: Final = frozenset(
    {
        Event.CALL_DENIED,
        Event.CALL_FAILED,
        Event.CALLER_LIMITED,
        Event.CALLER_REJECTED,
        Event.CHANGE_STUCK,
        Event.NOTIFICATION_FAILED,
        Event.PARENT_REFUSED,
        Event.POLICY_KEPT,
        Event.PROPOSAL_FAILED,
        Event.PROPOSAL_REFUSED,
    }
)
_LOUD: Final = {Event.CHANGE_STUCK: 4, Event.GLASS_BROKEN: 4, Event.CALL_DENIED: 2, Event.CALLER_REJECTED: 2}
"""Severities (4 high, 2 low); all else is 1, informational."""

_ALWAYS: Final = frozenset(
    {"detail", "event", "outcome", "replica", "seq", "time", "trace_id", "question", "surroundings"}
)
_BY_ACTOR: Final = _ALWAYS | {"agent", "caller", "caller_name", "decision", "itself", "policies"}
_PLACED: Final = {_BASE: _ALWAYS, _API: _BY_ACTOR | {"tool", "resource"}}
"""Which fields of a record an event of a class has an attribute for; those of the others are `_BY_ACTOR`."""

_UNMAPPED: Final = {
    class_uid: tuple(each.name for each in fields(Record) if each.name not in _PLACED.get(class_uid, _BY_ACTOR))
    for class_uid in _CATEGORIES
}


def describe_event(record: Record) -> dict[str, Any]:
    """The record as one event. What the schema has no place for stands under `unmapped`, by the record's own names."""
    kind = _find_kind(record)
    status, status_id = _judge(record)
    event: dict[str, Any] = {
        "activity_id": kind.activity_id,
        "category_uid": _CATEGORIES[kind.class_uid],
        "class_uid": kind.class_uid,
        "type_uid": kind.class_uid * 100 + kind.activity_id,
        "severity_id": _LOUD.get(record.event, 1),
        "time": _read_milliseconds(record.time),
        "status": status,
        "status_id": status_id,
        "metadata": _describe_metadata(record),
        "message": " ".join(filter(None, (record.event, record.tool, record.action, record.resource))),
        "unmapped": {name: value for name in _UNMAPPED[kind.class_uid] if (value := getattr(record, name))},
        **_describe_class(record, kind.class_uid),
    }
    other = record.event if kind.activity_id == _OTHER else ""
    optional = {"activity_name": other, "status_code": record.outcome, "status_detail": record.detail}
    return event | {name: value for name, value in optional.items() if value}


def _find_kind(record: Record) -> _Kind:
    if record.event in _KINDS:
        return _KINDS[record.event]
    if is_of(record.event, "call") or record.event is Event.CALLER_LIMITED:
        return _Kind(_API, _ACTIVITIES[Action(record.action).group] if record.action in set(Action) else 0)
    if is_of(record.event, "proposal") or is_of(record.event, "glass"):
        return _Kind(_ENTITY, _UPDATE)
    return _Kind(_BASE, _OTHER)


def _judge(record: Record) -> tuple[str, int]:
    if record.outcome == "intended":
        return "Intended", _OTHER
    failed = record.event in _FAILURES or record.decision == "deny" or record.outcome not in ("", "ok")
    return ("Failure", 2) if failed else ("Success", 1)


def _describe_metadata(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": VERSION,
        "product": _PRODUCT,
        "event_code": record.event,
        "log_name": record.replica,
        "original_time": record.time,
        "sequence": record.seq,
        "uid": _name_record(record),
    }
    return {**found, "correlation_uid": record.trace_id} if record.trace_id else found


def _describe_class(record: Record, class_uid: int) -> dict[str, Any]:
    """The attributes that a class has beside those of every event."""
    match class_uid:
        case 6003:
            api = {
                "operation": record.tool or record.action or record.event,
                "service": _SERVICE,
                "request": {"uid": _name_record(record)},
            }
            # The record holds no addresses: where a call came from is which agent sent it, or through which door.
            found = {"actor": _describe_actor(record), "api": api, "src_endpoint": {"name": _name_source(record)}}
            return {**found, "resources": [_describe_resource(record)]} if record.resource else found
        case 3002:
            return {"actor": _describe_actor(record), "user": _describe_user(record), "service": _SERVICE}
        case 3003:
            privileges = [record.resource or record.action or record.event]
            return {"actor": _describe_actor(record), "user": _describe_user(record), "privileges": privileges}
        case 3004:
            return {"actor": _describe_actor(record), "entity": _describe_entity(record)}
        case _:
            return {}


def _describe_actor(record: Record) -> dict[str, Any]:
    actor: dict[str, Any] = {"app_uid": record.agent} if record.agent else {}
    if record.caller or record.caller_name:
        actor["user"] = _describe_user(record)
    if record.decision or record.policies:
        decision = {"decision": {"allow": "Allowed", "deny": "Denied"}.get(record.decision, record.decision)}
        policies = [{**decision, "policy": {"uid": policy}} for policy in record.policies]
        actor["authorizations"] = policies or [decision]
    if "user" not in actor and "app_uid" not in actor:
        actor["app_name"] = _SERVICE["name"]
    return actor


def _describe_user(record: Record) -> dict[str, Any]:
    if not record.caller and not record.caller_name:
        return {"name": "Unknown", "type_id": 0}
    named = {"uid": record.caller, "name": record.caller_name}
    return {name: value for name, value in named.items() if value} | {"type_id": 4 if record.itself else 1}


def _describe_resource(record: Record) -> dict[str, Any]:
    kind, separator, _ = record.resource.partition("::")
    return {"uid": record.resource, **({"type": kind} if separator else {})}


def _describe_entity(record: Record) -> dict[str, Any]:
    if is_of(record.event, "policy"):
        policy = {"uid": record.policy_set or "Unknown"}
        return {**policy, "type": "Policy", "type_id": 5, "policy": policy}
    if is_of(record.event, "caller"):
        kind, _, name = record.resource.partition(":")
        return {"uid": name or "Unknown", "type": kind or "caller", "type_id": _OTHER}
    if is_of(record.event, "passkey"):
        return {"uid": record.resource or "Unknown", "type": "Passkey", "type_id": _OTHER}
    return {"uid": record.proposal or record.resource or "Unknown", "type": "Proposal", "type_id": _OTHER}


def _name_source(record: Record) -> str:
    return record.agent or record.channel or record.replica


def _name_record(record: Record) -> str:
    return f"{record.replica}:{record.seq}"


def _read_milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1_000)
