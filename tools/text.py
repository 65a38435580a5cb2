"""Untrusted text made harmless: control, escape, bidirectional and invisible characters (and halves of
surrogate pairs, which nothing can encode) go, long texts are cut."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|\x9b[0-?]*[ -/]*[@-~]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)
_LINE_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")

SUSPECT = re.compile("[^\x20-\x7e\n\t]")
"""Plain ASCII needs no cleaning; this finds what might."""


def neutralise(text: str, limit: int) -> str:
    """The text without what a terminal, an editor or a model could be fooled with, at most `limit` characters long."""
    if SUSPECT.search(text) is not None:
        text = _INVISIBLE.sub("", _ESCAPES.sub("", _LINE_BREAKS.sub("\n", text)))
    if len(text) > limit:
        text = f"{text[:limit]} … ({len(text) - limit} more characters)"
    return text
