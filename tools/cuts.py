"""Cuts of untrusted text that leave no part of a secret standing, which by itself nobody could know for one."""

from __future__ import annotations

import base64
import binascii
import re

from .secrets import Found, default_detector, replace
from .text import disarm

AROUND = 4_096
"""How much on both sides of a part is looked at to know what its ends would cut in two (characters, or bytes)."""

LONGEST_WORD = 512
"""A word that is longer is cut like any other text, unless it is a secret, text in base64, or hides something."""

_APART = bytes.maketrans(b"\t\n\r\"'`,;(){}[]<>|", b" " * 17)
"""What parts words, all made spaces."""

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_SEQUENCE = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]?")
_GZIP = b"\x1f\x8b"


def shorten(text: str, length: int) -> str:
    """The text in at most `length` characters, with `…` for the rest; one that is too long loses what is not drawn, too. A
    word or a secret that the cut falls into is left out as a whole."""
    if len(text) <= length or len(text := disarm(text)) <= length:
        return text
    known = text[: length + AROUND].encode("utf-8", "replace")
    end = len(text[: length - 1].encode("utf-8", "replace"))
    kept = known[: min([end, *(start for start, stop in _list_wholes(known, end) if start < end < stop)])]
    return kept.decode("utf-8", "replace") + "…"


def take_part(data: bytes, start: int, end: int) -> bytes:
    """The words and secrets of a text (in UTF-8) that begin between two offsets, each as a whole: part by part, all of the
    text is taken and nothing of it twice. A secret that only the text before the part makes known for one is replaced.

    `data` holds what is around the part, if there is anything."""
    first, last = start, min(end, len(data))
    for begin, stop in _list_wholes(data, start, end):
        if begin < start < stop:
            first = max(first, stop)
        if begin < end < stop:
            last = max(last, stop)
    return _hide_orphans(data, first, max(first, last))


def _list_wholes(data: bytes, *cuts: int) -> list[tuple[int, int]]:
    """What must not be cut in two at these offsets: secrets, and the words that the cuts fall into."""
    wholes = [(one.start, one.end) for one in default_detector().find(data)]
    # A sequence to the terminal, which begins with a bracket, parts no words.
    words = _SEQUENCE.sub(lambda match: b"_" * len(match[0]), data).translate(_APART)
    for cut in cuts:
        begin, stop = words.rfind(b" ", 0, cut) + 1, words.find(b" ", cut)
        stop = len(data) if stop < 0 else stop
        if stop - begin <= LONGEST_WORD or _is_wrapped(data[begin:stop]) or _hides(data[begin:stop]):
            wholes.append((begin, stop))
    return wholes


def _hides(word: bytes) -> bool:
    """Whether something in it is not drawn: then what the detector sees is not what there is to read."""
    text = word.decode("utf-8", "ignore")
    return disarm(text) != text


def _is_wrapped(word: bytes) -> bool:
    """Whether it is base64 of text, or of something compressed. Where it begins may not be known."""
    if _BASE64.fullmatch(word) is None:
        return False
    plain = word.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    return any(_holds_text(plain[offset : offset + 128]) for offset in range(4))


def _holds_text(part: bytes) -> bool:
    try:
        raw = base64.b64decode(part[: len(part) // 4 * 4])
    except binascii.Error:
        return False
    return raw.startswith(_GZIP) or (len(raw) > 8 and raw.decode("utf-8", "replace").isprintable())


def _hide_orphans(data: bytes, first: int, last: int) -> bytes:
    """The part without the secrets that are known for such only by what stands before it."""
    part = data[first:last]
    if not first:
        return part
    find = default_detector().find
    alone = {(one.start + first, one.end + first) for one in find(part)}
    orphans = [
        Found(one.kind, one.start - first, one.end - first)
        for one in find(data)
        if first <= one.start and one.end <= last and (one.start, one.end) not in alone
    ]
    return replace(part, orphans, lambda one, _: f"[redacted:{one.kind}]".encode())
