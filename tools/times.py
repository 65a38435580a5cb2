"""Times as tools take and give them: RFC 3339 in UTC, or a length of time before now."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..policies.errors import Invalid

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def write_time(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the second; `""` for 0, which means "not yet"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def read_time(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time with its offset; None for any other text."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.timestamp() if time.tzinfo else None


def read_moment(text: str, now: float, *, field: str) -> float:
    """Seconds since the epoch of `2026-11-21T08:00:00Z` or of `7d` (that long before now); 0 for no text.

    Raises `Invalid` naming the field."""
    if not text:
        return 0.0
    if ago := _AGO.fullmatch(text):
        return max(now - int(ago[1]) * _SECONDS[ago[2]], 1.0)
    if (moment := read_time(text)) is None:
        raise Invalid(
            "This is not a time.", field=field, hint="Give RFC 3339 (2026-11-21T08:00:00Z) or a time ago: 30m, 24h, 7d."
        )
    return moment


def write_age(seconds: float) -> str:
    """A length of time for people, in its largest unit: `42s`, `7m`, `3h`, `12d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"
