"""Texts wrapped in other texts: base64, gzip, URL and Unicode escapes, JSON in JSON; found and opened in linear time."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from urllib.parse import unquote_to_bytes

MOST_UNPACKED = 1 << 18
"""Bytes that all compressed texts of one answer may become; what becomes more is not looked into, and hidden: two
kilobytes can become a megabyte, and again within each other."""

# The base64 of printable ASCII: every character of four says in its upper bits that the byte is one. Hashes, ids and
# pictures fail within some characters; near the start of a run of base64, so that there is one way to read it; the very
# first may be letters of another script. A slash may be part of one, or of the path before it.
_QUAD = r"[CDI-Za-f][AC-HQS-Xgi-nwyz0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]"
BASE64 = rf"(?:^|[^A-Za-z0-9+])((?:[A-Za-z0-9+/_-]{{4}}){{0,8}}?(?:{_QUAD}){{4}})"
GZIP = r"(?:^|[^A-Za-z0-9+])((?:H4sI|SDRzS[UQ])[A-Za-z0-9+/_-]{20})"
ESCAPED = (
    r"%[0-7][0-9A-Fa-f]|\\u[0-9a-fA-F]{4}|\\U000[0-9a-fA-F]{5}|\\x[0-9a-fA-F]{2}|\\[nrt/]|"
    r"&(?:#\d{2,3}|#x[0-9a-fA-F]{2}|quot|amp|apos|lt|gt);"
)
"""RE2: where something may be wrapped."""

RUN = re.compile(rb"(?:[A-Za-z0-9+/_-]{60,}\s{1,16})*[A-Za-z0-9+/_-]{16,}={0,2}")
"""One run of base64, over lines where it is broken into long ones."""

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|U000([0-9a-fA-F]{5})|x([0-9a-fA-F]{2})|([nrt\"'/\\]))")
_ENTITY = re.compile(rb"&(?:#(\d{2,3})|#x([0-9a-fA-F]{2})|(quot|amp|apos|lt|gt));")
_LETTERS = {b"n": b"\n", b"r": b"\n", b"t": b"\t"}
_ENTITIES = {b"quot": b'"', b"amp": b"&", b"apos": b"'", b"lt": b"<", b"gt": b">"}


def open_base64(run: bytes) -> str | None:
    """The text in a run of base64 or base64url; None when it holds none. Bytes that are no UTF-8 make it none."""
    plain = b"".join(run.split()).rstrip(b"=").translate(_FROM_URL)
    if len(plain) % 4 == 1:
        plain = plain[:-1]
    try:
        text = base64.b64decode(plain + b"=" * (-len(plain) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return text if all(character.isprintable() or character in "\n\r\t" for character in text[:64]) else None


def open_gzip(run: bytes, room: int) -> str | None:
    """The text of a run of base64 (once, or twice as Helm writes its releases) that holds gzip; None when it can't be
    looked into, or would be more than `room` bytes."""
    if room <= 0:
        return None
    packed = b"".join(run.split()).rstrip(b"=").translate(_FROM_URL)
    for _ in range(2):
        try:
            packed = base64.b64decode(packed + b"=" * (-len(packed) % 4))
        except (binascii.Error, ValueError):
            return None
        if packed[:2] == b"\x1f\x8b":
            break
        packed = packed.rstrip(b"=")
    try:
        opened = zlib.decompressobj(wbits=31)
        text = opened.decompress(packed, room)
        return text.decode() if opened.eof and not opened.unused_data else None
    except (zlib.error, UnicodeDecodeError):
        return None


def unescape(data: bytes) -> bytes:
    r"""The text with `%3D`, `\u003d`, `\x3d` and `&#61;` read as what they stand for, once."""
    data = _ESCAPE.sub(_read_escape, data)
    data = _ENTITY.sub(_read_entity, data)
    return unquote_to_bytes(data) if b"%" in data else data


def _read_escape(match: re.Match[bytes]) -> bytes:
    if code := match[1] or match[2]:
        return chr(int(code, 16)).encode("utf-8", "ignore")
    if byte := match[3]:
        return b"" if byte.lower() == b"ad" else bytes([int(byte, 16)])  # a soft hyphen, which alone is no UTF-8
    return _LETTERS.get(match[4], match[4])


def _read_entity(match: re.Match[bytes]) -> bytes:
    if match[3]:
        return _ENTITIES[match[3]]
    number = int(match[1]) if match[1] else int(match[2], 16)
    return bytes([number]) if 0x20 <= number < 0x7F else match[0]


_FROM_URL = bytes.maketrans(b"-_", b"+/")
