"""Structured logs: one JSON object a line on standard error, quiet by default, redacted like everything that leaves."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

QUIET = ("aiohttp", "httpcore2", "httpx2", "kubernetes", "mcp", "urllib3", "uvicorn")
"""Libraries that say only what went wrong."""


_LEFT_OUT = "(left out: it could not be redacted)"


class JsonFormatter(logging.Formatter):
    """`time, level, logger, message`, and `error` with the exception's type and text; traces only at debug."""

    def __init__(self, clean: Callable[[str], str], *, traces: bool) -> None:
        super().__init__()
        self._redact = clean
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._clean(_say(record)),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            shown = self.formatException(record.exc_info) if self._traces else f"{type(error).__name__}: {error}"
            body["error"] = self._clean(shown)
        return orjson.dumps(body).decode()

    def _clean(self, text: str) -> str:
        """Nothing is raised from here: the standard library would print the line as it came."""
        try:
            return self._redact(text)
        except Exception:
            return _LEFT_OUT


def _say(record: logging.LogRecord) -> str:
    """The line with its arguments; without them, when they do not fit it."""
    try:
        return record.getMessage()
    except Exception:
        return str(record.msg)


def set_up_logging(level: str, clean: Callable[[str], str]) -> None:
    """Installs the one handler. At `debug` libraries speak too, and errors come with their traces."""
    chosen = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(clean, traces=chosen <= logging.DEBUG))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(chosen)
    for name in QUIET:
        logging.getLogger(name).setLevel(chosen if chosen <= logging.DEBUG else max(chosen, logging.ERROR))
