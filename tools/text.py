"""Untrusted text made harmless, and kept apart from ours: what hides, reorders or drives a terminal goes, what is too
long is cut in words, and in our own text it stands between marks or behind a margin that it can't forge.

Kept are line feeds, tabs, and what writing needs: a single joiner between letters of the scripts that join (Persian,
Hindi and their neighbours are misspelt without), and those within emoji. Nothing is normalised: a name that is shown
must still be the name when it is given back.
"""

from __future__ import annotations

import re

import re2

LONGEST_LINE = 2_000
"""Characters of one line that an answer shows; no log line, condition or sentence of prose needs more."""

SUSPECT = re.compile("[^\x20-\x7e\n\t]")
"""Plain ASCII needs no cleaning; this finds what might."""

_LINE_BREAKS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")

_DRIVING = re.compile("[\x1b\x80-\x9f]")
# ECMA-48: strings to the terminal (OSC, DCS, SOS, PM, APC) with their body; control sequences (CSI); all other escapes.
# A string that nothing ends on its line loses its opening alone: else it would swallow what other people wrote.
_ESCAPES = re.compile(
    "(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\n\x1b\x90\x98\x9b-\x9f]*(?:\x07|\x1b\\\\|\x9c)"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|\x1b[ -/]*[0-~]"
)

_INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # tags: a hidden alphabet; also the flags of England, Scotland, Wales
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use: means what two parties agreed on, to anybody else nothing
)
_JOINING = "\u0600-\u109f\u1780-\u18af"
_EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_HIDDEN = re.compile(f"[{_INVISIBLE}]+")
_JOINERS = frozenset("\u200c\u200d")
_WITHIN_EMOJI = frozenset(["\u200d", "\ufe0f\u200d"])
_JOINS = re.compile(f"[{_JOINING}]")
_DRAWS = re.compile(f"[{_EMOJI}]")

_FLOOD = re2.compile(r"(\p{M}{5})\p{M}+")
"""More marks on one letter than any language puts there: they would be drawn over the lines around."""

_FORMATTING = re.compile(r"<(?=[A-Za-z/!?|])|\](?=[(\[:])")
_INSTEAD = {"<": "‹", "]": "] "}
_PLAIN_LINE = re.compile(r"[!-;=-\\^-~]+(?: [!-;=-\\^-~]+)*+")
"""Most of what is quoted: single spaces between plain words, with neither `<` nor `]`."""

_PLAIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+*~=#?&%-]{0,127}")


def neutralise(text: str, limit: int, *, line: int = LONGEST_LINE) -> str:
    """The text without what a terminal, an editor or a model could be fooled with, at most `limit` characters long, and
    no line of it longer than `line`. Takes linear time, and none to speak of for plain ASCII."""
    return cut(disarm(text), limit, line=line)


def disarm(text: str) -> str:
    """The text without escape sequences and without characters that are not drawn, or that reorder or bury others."""
    if SUSPECT.search(text) is None:
        return text
    if _DRIVING.search(text) is not None:
        text = _ESCAPES.sub("", text)
    text = _HIDDEN.sub(_keep_needed, _LINE_BREAKS.sub("\n", text.replace("\r\n", "\n")))
    return text if text.isascii() or _FLOOD.search(text) is None else _FLOOD.sub(r"\1", text)


def cut(text: str, limit: int, *, line: int = LONGEST_LINE) -> str:
    """The text in at most `limit` characters and lines of at most `line`, each followed by words that say how much is
    missing."""
    if len(text) <= min(limit, line):
        return text
    shown = text[:limit]
    if len(shown) > line:
        shown = "\n".join(
            f"{one[:line]} … ({len(one) - line} more characters on this line)" if len(one) > line else one
            for one in shown.split("\n")
        )
    return shown if len(text) <= limit else f"{shown} … ({len(text) - limit} more characters)"


def quote(text: str | None, limit: int = LONGEST_LINE) -> str:
    """Untrusted text as part of a line of ours: on one line (⏎ for a line break), between marks that it does not hold,
    and with nothing in it that a client would take for markup, a link or an image; `""` for none.

    Every such text in a text of ours passes here or `margin`, so that what stands outside of marks and margins is ours."""
    if not text:
        return ""
    if len(text) <= limit and _PLAIN_LINE.fullmatch(text):
        return f"«{text}»"
    plain = disarm(text)
    if "\n" in plain:
        plain = " ⏎ ".join(line for line in plain.split("\n") if line.strip())
    safe = _FORMATTING.sub(_take_apart, " ".join(plain.split()))
    if not safe.isascii():
        safe = safe.replace("«", "‹").replace("»", "›")
    return f"«{cut(safe, limit, line=limit)}»"


def quote_name(text: str | None) -> str:
    """Untrusted text that should be a name (a project, a kind, a revision): bare where it is one plain word, in which
    nothing can be said, else quoted; `""` for none."""
    return text if text and is_plain(text) else quote(text)


def is_plain(text: str) -> bool:
    """Whether the text is one plain word, such as a revision, an image or an address."""
    return _PLAIN_WORD.fullmatch(text) is not None


def margin(text: str, indent: str = "") -> list[str]:
    """Untrusted text of several lines as lines of ours: behind a margin, so that none of them can pass for ours."""
    safe = _FORMATTING.sub(_take_apart, disarm(text))
    return [f"{indent}| {line}".rstrip() for line in safe.split("\n")] if text else []


def _take_apart(match: re.Match[str]) -> str:
    return _INSTEAD[match[0]]


def _keep_needed(match: re.Match[str]) -> str:
    """Of what is not drawn: what the letters or the emoji on both sides need to be written as they are."""
    hidden, text = match[0], match.string
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    if hidden in _JOINERS and _JOINS.match(before) and _JOINS.match(after):
        return hidden
    if not _DRAWS.match(before):
        return ""
    return hidden if hidden in _WITHIN_EMOJI and _DRAWS.match(after) else hidden[: hidden[0] == "\ufe0f"]
