"""JSON-RPC as the bridge handles it: a message keeps the bytes it came in, and is read only to be routed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeGuard

import orjson

from ...policies.errors import ArborgateError

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INTERNAL_ERROR: Final = -32603
UNREACHED: Final = -32000
"""The request did not get through; the implementation's own range (JSON-RPC 2.0 section 5.1)."""

RequestId = int | str


class Kind(StrEnum):
    """What a message is, which decides what is owed for it."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the client. `id` is None for notifications alone."""

    raw: bytes
    kind: Kind
    id: RequestId | None
    method: str
    params: Mapping[str, Any]

    @property
    def meta(self) -> Mapping[str, Any]:
        """The `_meta` of its params, empty when there is none."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}


class Malformed(Exception):
    """A line that is no message; `answer` is the error to send back for it."""

    def __init__(self, code: int, message: str, request_id: RequestId | None = None) -> None:
        super().__init__(message)
        self.answer = write_error(request_id, code, message)


def read_message(line: bytes) -> Message:
    """The message of one line; raises `Malformed`."""
    try:
        found = parse(line)
    except ValueError:
        raise Malformed(PARSE_ERROR, "The line is not JSON.") from None
    if not isinstance(found, dict):
        raise Malformed(INVALID_REQUEST, "A message is one JSON object; batches are not taken.")
    request_id, method, params = found.get("id"), found.get("method"), found.get("params")
    if "id" in found and not is_id(request_id):
        raise Malformed(INVALID_REQUEST, "id: must be a string or an integer.")
    if "method" not in found:
        if "id" not in found or not ("result" in found or "error" in found):
            raise Malformed(INVALID_REQUEST, "The message has no method and is no response.", request_id)
        return Message(line, Kind.RESPONSE, request_id, "", {})
    if not isinstance(method, str):
        raise Malformed(INVALID_REQUEST, "method: must be a string.", request_id)
    kind = Kind.REQUEST if "id" in found else Kind.NOTIFICATION
    return Message(line, kind, request_id, method, params if isinstance(params, dict) else {})


def is_id(value: object) -> TypeGuard[RequestId]:
    """Whether the value can be a request's id."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def is_response(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed message ends the request that it answers."""
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":  # other errors in JSON look much the same
        return False
    return "method" not in value and ("result" in value or "error" in value)


def parse(data: bytes) -> Any:
    """The value of a JSON text; raises ValueError. Takes half surrogate pairs in escapes, which orjson does not."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data, parse_constant=_refuse)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def write(value: Mapping[str, Any]) -> bytes:
    """A message as one line, without its end."""
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair, say, which only escapes can carry
        return json.dumps(value, separators=(",", ":")).encode()


def write_error(request_id: RequestId | None, code: int, message: str, data: Mapping[str, Any] | None = None) -> bytes:
    """An error response as one line."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data:
        error["data"] = data
    return write({"jsonrpc": "2.0", "id": request_id, "error": error})


def write_failure(request_id: RequestId | None, error: ArborgateError) -> bytes:
    """What went wrong on the way, in the words for the person and as data for programs."""
    text = " ".join(part for part in (error.message, error.hint) if part)
    data = {"reason": str(error.reason), "message": error.message, **({"hint": error.hint} if error.hint else {})}
    return write_error(request_id, UNREACHED, text, data)


def flatten(data: bytes) -> bytes:
    """A JSON text on one line: between its tokens a line end is a space like any other, and within them is none."""
    return data.replace(b"\n", b" ").replace(b"\r", b" ")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
