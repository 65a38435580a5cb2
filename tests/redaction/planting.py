"""Secrets to plant, the encodings in which sources hand text on, and the oracle that finds one in what has left.

What counts as a secret here is what can be known for one: by its own shape (`ghp_…`), by the text around it
(`DB_PASSWORD=…`, a URL's user part, an Authorization header), or by the name of the place that holds it (an
environment variable `DB_PASSWORD`, a hash's field `password`). A random word in a sentence can't be known by anybody.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import string
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from random import Random
from urllib.parse import quote, unquote

import re2

from tests.redaction.planted import NAMED_KINDS, draw_secret, draw_secrets

Make = Callable[[Random], tuple[str, ...]]
"""Makes one secret: the text in which it is known for one, and what must never be seen of it."""

_SHARE = 0.6
"""The part of a secret that is as good as the whole."""

_FEWEST = 11
"""Letters and digits of the shortest secret: six tenths of a shorter one stand in many a text by chance."""

ALPHABET = string.ascii_letters + string.digits


class Form(StrEnum):
    """What a place can hold."""

    TEXT = "text"
    """Any text: a message, a document, a value."""
    LINE = "line"
    """One line of it."""
    WORD = "word"
    """One word: a label, a revision, part of an id."""
    NAMED = "named"
    """Whatever it is: the place's own name says that it is secret."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret in the text that makes it known for one; `needles` are what must never be seen of it."""

    kind: str
    text: str
    needles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planted:
    """A secret in a place: `text` is what the place holds."""

    place: str
    kind: str
    encoding: str
    text: str
    needles: tuple[str, ...]


_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\x1b\][^\x07]*\x07")
_NOT_ALPHANUMERIC = bytes(byte for byte in range(256) if not chr(byte).isalnum() or byte > 127)


def _squash(text: str) -> str:
    """Its letters and digits alone, small."""
    raw = _ANSI.sub("", text).encode("utf-8", "ignore").lower()
    return raw.translate(None, _NOT_ALPHANUMERIC).decode()


def _word(rng: Random, length: int) -> str:
    """Letters and digits of all sorts, as generators of passwords and tokens write them."""
    while True:
        word = "".join(rng.choices(ALPHABET, k=length))
        if re.search(r"[a-z].*[A-Z]|[A-Z].*[a-z]", word) and re.search(r"\d", word) and word[0].isalpha():
            return word


def _drawn(kind: str) -> Make:
    """A kind of the corpus, which is a secret as a whole."""

    def make(rng: Random) -> tuple[str, ...]:
        secret = draw_secret(kind, rng.getrandbits(32))
        return secret, secret

    return make


def _around(text: str, length: int) -> Make:
    def make(rng: Random) -> tuple[str, ...]:
        word = _word(rng, length)
        return text.replace("%", word), word

    return make


def _basic(rng: Random) -> tuple[str, ...]:
    word = _word(rng, 20)
    sent = base64.b64encode(f"app:{word}".encode()).decode()
    return f"Authorization: Basic {sent}", sent, word


def _private_key(rng: Random) -> tuple[str, ...]:
    text = draw_secret("private_key_rsa", rng.getrandbits(32))
    return text, *(line for line in text.split("\n") if "-----" not in line)


def _is_word(text: str) -> bool:
    return re.search(r"[\s$]", text) is None


WORDS: Mapping[str, Make] = {kind: _drawn(kind) for kind, text in draw_secrets(1) if _is_word(text)}
"""Known by their own shape. One word, that may stand anywhere."""

LINES: Mapping[str, Make] = {
    "assignment": _around("DB_PASSWORD=%", 18),
    "authorization": _around("Authorization: Bearer %", 32),
    "authorization_basic": _basic,
    "aws_secret_key": _around("aws_secret_access_key = %", 40),
    "azure_key": _around("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=%==;", 86),
    "connection_string": _around("Server=db;Database=orders;User Id=app;Password=%;", 18),
    "cookie": _around("Set-Cookie: session=%; HttpOnly", 32),
    "flag": _around("migrate --user app --password=% --verbose", 18),
    "git_url": _around("https://oauth2:%@git.example.com/shop/orders.git", 24),
    "json_pair": _around('{"user": "app", "password": "%"}', 18),
    "password_hash": _drawn("password_hash_bcrypt"),
    "redis_url": _around("redis://:%@cache.internal:6379/0", 18),
    "url_password": _around("postgres://app:%@db.internal:5432/orders", 18),
    "yaml_pair": _around("clientSecret: %", 24),
}
"""Known by what stands around them on their line."""

BLOCKS: Mapping[str, Make] = {
    "env_pair": _around('{"env": [{"name": "API_TOKEN", "value": "%"}]}', 24),
    "helm_values": _around("auth:\n  username: app\n  password: %\nreplicas: 2", 18),
    "kube_secret": _around("apiVersion: v1\nkind: Secret\nmetadata:\n  name: orders\nstringData:\n  seed: %", 24),
    "private_key": _private_key,
}
"""Known by the document that they are in."""

OPAQUE: Mapping[str, Make] = {
    "opaque": _around("%", 22),
    **{kind: _drawn(kind) for kind in NAMED_KINDS if len(_squash(draw_secret(kind, 1))) >= _FEWEST},
}
"""Known by the name of the place alone."""

KINDS: Mapping[Form, Mapping[str, Make]] = {
    Form.TEXT: {**WORDS, **LINES, **BLOCKS},
    Form.LINE: {**WORDS, **LINES},
    Form.WORD: WORDS,
    Form.NAMED: {**OPAQUE, **WORDS},
}


def make_secret(form: Form, kind: str, rng: Random) -> Secret:
    text, *needles = KINDS[form][kind](rng)
    return Secret(kind, text, tuple(needles))


def _escape_some(text: str, rng: Random) -> str:
    r"""JSON as some writers write it: `\u00xx` for any character, `\/` for a slash."""
    written = json.dumps(text)[1:-1]
    return "".join(
        f"\\u{ord(char):04x}" if char.isalnum() and written[at - 1] != "\\" and rng.random() < 0.2
        else "\\/" if char == "/" else char
        for at, char in enumerate(written)
    )  # fmt: skip


def _nested(depth: int) -> Callable[[Secret, Random], str]:
    def write(secret: Secret, _rng: Random) -> str:
        text = secret.text
        for _ in range(depth):
            text = json.dumps({"kind": "Note", "spec": {"note": text}})
        return text

    return write


def _indent(text: str, lead: str) -> str:
    return lead + "\n".join(f"  {line}" for line in text.split("\n"))


def _wrap(text: str) -> str:
    return re.sub(r"(.{76})(?=.)", r"\1\n", text)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _break_by(*breaks: str) -> Callable[[Secret, Random], str]:
    """Something that is not drawn, in the middle of the secret itself."""

    def write(secret: Secret, rng: Random) -> str:
        text = secret.text
        for needle in filter(text.__contains__, secret.needles):
            at = text.index(needle) + rng.randrange(1, len(needle))
            text = text[:at] + rng.choice(breaks) + text[at:]
        return text

    return write


def _write_helm(secret: Secret, _rng: Random) -> str:
    """A release as Helm keeps it: JSON, compressed, in base64."""
    release = json.dumps({"name": "orders", "manifest": secret.text, "version": 3})
    return base64.b64encode(gzip.compress(release.encode(), mtime=0)).decode()


ENCODINGS: Mapping[str, Callable[[Secret, Random], str]] = {
    "plain": lambda secret, _: secret.text,
    "ansi": _break_by("\x1b[31m", "\x1b[0m", "\x1b]8;;x\x07"),
    "base64": lambda secret, _: _encode(f"config: {secret.text}"),
    "base64_url": lambda secret, _: base64.urlsafe_b64encode(f"config: {secret.text}".encode()).decode().rstrip("="),
    "base64_wrapped": lambda secret, _: _wrap(_encode(f"# the settings of orders\n{secret.text}\n# their end\n")),
    "go_quoted": lambda secret, _: f"invalid value {json.dumps(secret.text)}: must be shorter",
    "helm_release": _write_helm,
    "html": lambda secret, _: f"<pre>{html.escape(secret.text)}</pre>",
    "json": _nested(1),
    "json_escaped": lambda secret, rng: f'{{"note": "{_escape_some(secret.text, rng)}"}}',
    "json_twice": _nested(2),
    "json_thrice": _nested(3),
    "log_line": lambda secret, _: f'time="2026-11-20T10:00:00Z" level=error msg={json.dumps(secret.text)}',
    "percent": lambda secret, _: f"GET /callback?state={quote(secret.text, safe='')}&next=1",
    "python_repr": lambda secret, _: f"ValueError: {secret.text!r}",
    "python_bytes": lambda secret, _: f"unexpected {secret.text.encode()!r}",
    "sentence": lambda secret, _: f"could not start: {secret.text} (attempt 3)",
    "yaml_block": lambda secret, _: _indent(secret.text, "note: |\n"),
    "yaml_folded": lambda secret, _: _indent(secret.text, "note: >-\n"),
    "yaml_quoted": lambda secret, _: f"note: {json.dumps(secret.text)}",
    "zero_width": _break_by("\u200b", "\u200d", "\ufeff", "\u00ad", "\u2060", "\U000e0041"),
}
ENCODED_WORDS = ("plain", "zero_width")
"""What a place that holds one word can hold."""

CUTS = (0, 60, 80, 100, 250, 280, 300, 480, 500, 580, 600, 1_980, 2_000, 11_990)
"""Characters before the secret: around the lengths at which something is cut."""


def encodings_of(form: Form) -> tuple[str, ...]:
    """The encodings that such a place can hold."""
    return ENCODED_WORDS if form in (Form.WORD, Form.NAMED) else tuple(ENCODINGS)


def plant(place: str, form: Form, kind: str, encoding: str, *, seed: int, lead: int = 0) -> Planted:
    """The secret of that kind for that place: the same for the same seed, and no other place has it."""
    rng = Random(f"{seed}/{place}")
    secret = make_secret(form, kind, rng)
    text = ENCODINGS[encoding](secret, rng)
    if lead and form in (Form.TEXT, Form.LINE):
        text = (
            ("back-off restarting failed container " * (lead // 37 + 1))[:lead]
            + ("\n" if form is Form.TEXT else " ")
            + text
        )
    if form is Form.LINE:
        text = text.replace("\n", " ")
    return Planted(place, kind, encoding, text, secret.needles)


_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_WRAPPED = re.compile(r"(?<=[A-Za-z0-9+/]{70})\s{1,3}(?=[A-Za-z0-9+/])")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[ :]?){8,}")


class Oracle:
    """Finds planted secrets in text: whole, or six tenths of one in a row, in whatever encoding it stands there.

    Letter case and everything but letters and digits are passed over, so that what is split is found too."""

    def __init__(self, planted: Mapping[str, Planted]) -> None:
        self._needles = {_squash(needle): one.place for one in planted.values() for needle in one.needles}
        middles = {_middle(needle) for needle in self._needles}
        self._any = re2.compile("|".join(re.escape(middle) for middle in sorted(middles)))
        self._windows: dict[str, set[str]] = {}
        for needle, place in self._needles.items():
            size = _window(needle)
            for at in range(len(needle) - size + 1):
                self._windows.setdefault(needle[at : at + size], set()).add(place)
        self._sizes = sorted({len(window) for window in self._windows})

    def find(self, text: str) -> set[str]:
        """The places whose secret can be read in the text."""
        found: set[str] = set()
        for view in _views(text):
            squashed = _squash(view)
            for match in self._any.finditer(squashed):
                found |= self._around(squashed, match.start(), match.end())
        return found

    def _around(self, text: str, start: int, end: int) -> set[str]:
        found: set[str] = set()
        for size in self._sizes:
            for at in range(max(0, end - size), min(start, len(text) - size) + 1):
                found |= self._windows.get(text[at : at + size], set())
        return found


def _window(needle: str) -> int:
    return ceil(len(needle) * _SHARE)


def _middle(needle: str) -> str:
    """What every window of the needle holds."""
    size = _window(needle)
    return needle[len(needle) - size : size]


def _views(text: str, depth: int = 3) -> Iterator[str]:
    """The text, and whatever can be read in it by who undoes its encodings."""
    seen = text
    for _ in range(6):
        yield seen
        yield from _decoded(seen, depth)
        undone = unquote(html.unescape(_ESCAPED.sub(_undo, seen)))
        if undone == seen:
            return
        seen = undone


def _undo(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    if code:
        return chr(int(code, 16))
    return {"n": "\n", "r": "\r", "t": "\t"}.get(match[3], match[3])


def _decoded(text: str, depth: int) -> Iterator[str]:
    if not depth:
        return
    joined = _WRAPPED.sub("", text)
    for run in {match[0] for match in _BASE64.finditer(joined)}:
        plain = run.replace("-", "+").replace("_", "/")
        for offset in range(4):
            part = plain[offset:]
            yield from _read(base64.b64decode(part[: len(part) - (len(part) % 4 == 1)] + "=="), depth)
    for match in _HEX.finditer(text):
        digits = re.sub("[ :]", "", match[0])
        yield from _read(bytes.fromhex(digits), depth)


def _read(raw: bytes, depth: int) -> Iterator[str]:
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = zlib.decompressobj(31).decompress(raw)  # as much as there is, when its end was cut off
        except zlib.error:
            return
    text = raw.decode("latin-1")
    if sum(char.isprintable() or char.isspace() for char in text[:64]) >= 0.9 * len(text[:64]):
        yield from _views(text, depth - 1)
