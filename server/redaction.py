"""Redaction: the one engine that results, errors, records, logs and pages pass before they leave."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import unquote

import orjson
import re2

from ..tools.secret_names import TELLING, NameKind, normalise_names
from ..tools.secret_values import is_reference
from ..tools.secrets import Detector, Found, compile_fast, default_detector, is_mark, replace
from ..tools.text import LONGEST_LINE, cut, disarm
from .fingerprints import Fingerprints
from .redaction_settings import RedactionSettings
from .structures import (
    SECRET_LINE,
    TABLE,
    hide_columns,
    hide_inline,
    hide_manifests,
    is_private_part,
    is_schema,
    is_secret_object,
    join_command,
    names_value,
    refers,
    secret_items,
    spares,
    spares_number,
    tells_name,
)
from .wrappings import BASE64, ESCAPED, GZIP, MOST_UNPACKED, RUN, open_base64, open_gzip, unescape

_DEPTH: Final = 6
"""How many texts within texts are opened. What is wrapped deeper is hidden as a whole: no source writes such a thing."""

_TOP: Final = 5
"""Down to this level a container is first looked at as a whole; further down the looks would add up."""

_FAILED: Final = 1 << 14
"""What it takes of the room for compressed texts when one can't be opened: not for nothing, or there could be many."""

_KNOWN: Final = 32_768
"""Short texts remembered as harmless: kinds, namespaces and states come again in every row."""

# Letters, digits and signs of the usual scripts need no second look. All else that is not plain ASCII might be invisible.
_ODD = (
    r"[^\x00-\x7e\x{a1}-\x{ac}\x{ae}-\x{24f}\x{370}-\x{3ff}\x{400}-\x{482}\x{48a}-\x{52f}\x{2010}-\x{2027}"
    r"\x{2030}-\x{205e}\x{20a0}-\x{20bf}\x{2190}-\x{22ff}\x{2500}-\x{257f}\x{2713}-\x{2717}\x{3001}-\x{3003}\x{3041}-\x{3096}\x{309b}-\x{30ff}\x{4e00}-\x{9fff}\x{ac00}-\x{d7a3}]"
)
_OBJECT: Final = r"kind\\*[\"']?\s*[:=]\s*\\*[\"']?Secret(?:List)?\b"
_MARKERS = (
    _ODD,
    _OBJECT,
    BASE64,
    GZIP,
    ESCAPED,
    r'(?i:\["(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]+)",")',
    # What only the structure tells: a typed Secret, a JSON web key, an option and its value, a name and its value.
    r'"type"\s*:\s*"(?:Opaque"|helm\.sh/release|[a-z.]*kubernetes\.io/)',
    r'"(?:kty|bcrypt_hash)"\s*:',
    TABLE,
    r'",\s*"-[A-Za-z]",\s*"',
    rf'[\[,]\s*"[A-Za-z_.]*{TELLING}[A-Za-z_.]*",\s*["\[]',
)

_BACKSLASH: Final = 0x5C
_NAMED: Final = frozenset(NameKind)
_ONE_DRAWN = re.compile(r"[A-Za-z0-9+/_.~-]+={0,2}")
"""One thing drawn, and not several (a connection string, a file) of which all but a guessable one may be known."""
_DIGEST = re.compile(r"[0-9a-fA-F]+|[A-Za-z0-9+/]{22}==|[A-Za-z0-9+/]{27}=|[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==")
"""What may be the hash of a password: MD5, SHA-1, SHA-256 or SHA-512."""
_WHOLE_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_MARKED = compile_fast("|".join(_MARKERS))
_TABLE = re2.compile(TABLE)
_BASE64, _GZIP, _ESCAPED = re2.compile(BASE64), re2.compile(GZIP), re2.compile(ESCAPED)

_ROOM: ContextVar[int] = ContextVar("room", default=MOST_UNPACKED)
"""Bytes that compressed texts of the answer in hand may still become."""

Cleaned = tuple[Any, int]


class Redactor:
    """Removes secrets by structure (a Secret's data, an environment variable's value), by key name and by shape, however
    they are wrapped, and makes untrusted text harmless. An answer in which one linear scan finds nothing suspicious
    passes untouched, as the same object.

    In results a secret shows its kind and its fingerprint, where there is a key: `[redacted:github_token:7f3a9c21]`. In
    texts (errors, records, logs, pages) it shows the kind alone: what callers wrote comes back in those."""

    def __init__(
        self,
        settings: RedactionSettings | None = None,
        *,
        text_limit: int = 12_000,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self._limit = text_limit
        self._detector = _detector_for(settings or RedactionSettings())
        self._hints = compile_fast("|".join([*_MARKERS, self._detector.hints, *self._detector.heads]))
        self._quiet: set[str] = set()
        self._fingerprints = fingerprints
        self._without = self if fingerprints is None else self.with_fingerprints(None)

    def with_fingerprints(self, fingerprints: Fingerprints | None) -> Redactor:
        """The same redactor, telling fingerprints in results or telling none."""
        made = copy.copy(self)
        made._fingerprints = fingerprints
        made._without = made if fingerprints is None else self._without
        return made

    def clean(self, value: Any) -> tuple[Any, int]:
        """The JSON value, cleaned, and how many secrets were taken out. The value given is not changed."""
        if self._passes(value):
            return value, 0
        _ROOM.set(MOST_UNPACKED)
        return self._walk(value, None)

    def clean_text(self, text: str) -> str:
        """One text, cleaned; its lines are not cut, since people approve what they read on a page."""
        _ROOM.set(MOST_UNPACKED)
        return cut(self._without._secrets(disarm(text), 0)[0], self._limit, line=self._limit)

    def _passes(self, value: Any) -> bool:
        """Whether a quick look at the value as JSON finds nothing that a walk could change."""
        try:
            dumped = orjson.dumps(value)
        except (TypeError, RecursionError):  # half of a surrogate pair somewhere in it
            return False
        if _may_hold_longer(dumped, min(self._limit, LONGEST_LINE)):
            return False
        flat = _flatten(dumped)
        return flat is not None and self._is_quiet(flat)

    def _is_quiet(self, data: bytes) -> bool:
        """One pass over the text finds hints; only what they hint at is looked for."""
        if self._hints.search(data) is None:
            return True
        marked = _MARKED.search(data) is not None
        return not (marked or self._detector.shows_secret(data) or self._detector.names_secret(data))

    def _walk(self, value: Any, hidden: NameKind | None, depth: int = 0, level: int = 0) -> Cleaned:
        """`hidden` is what the key says that the value hangs under, when that key says "secret"."""
        if isinstance(value, str):
            return self._text(value, depth) if hidden is None else self._hide(value, hidden, depth)
        if isinstance(value, Mapping):
            return self._mapping(value, hidden, depth, level)
        if isinstance(value, list | tuple):
            return self._list(value, hidden, depth, level)
        if isinstance(value, bytes):
            return self._walk(value.decode("utf-8", "replace"), hidden, depth, level)
        if hidden is not None and isinstance(value, int | float) and not isinstance(value, bool):
            return (value, 0) if spares_number(hidden, value) else (f"[redacted:{hidden}]", 1)
        return value, 0

    def _part(self, value: Any, hidden: NameKind | None, depth: int, level: int) -> Cleaned:
        if hidden is None and level <= _TOP and isinstance(value, Mapping | list) and self._passes(value):
            return value, 0
        return self._walk(value, hidden, depth, level)

    def _list(self, values: Sequence[Any], hidden: NameKind | None, depth: int, level: int) -> Cleaned:
        kinds = self._secret_items(values) if hidden is None else {}
        items, counts = [], 0
        for index, item in enumerate(values):
            cleaned, count = self._part(item, hidden or kinds.get(index), depth, level + 1)
            items.append(cleaned)
            counts += count
        return items, counts

    def _secret_items(self, values: Sequence[Any]) -> dict[int, NameKind]:
        kinds = secret_items(values, self._detector.kind_of_name)
        line = join_command(values)
        found = self._detector.find_shapes(line.encode()) if line else []
        at = 0
        for index, item in enumerate(values if found else ()):
            word = item.encode()
            whole = any(one.start < at + len(word) and at < one.end for one in found)
            if whole and not self._detector.shows_secret(word):  # what the item tells by itself needs no neighbours
                kinds.setdefault(index, NameKind.PASSWORD)
            at += len(word) + 1
        return kinds

    def _mapping(self, value: Mapping[str, Any], hidden: NameKind | None, depth: int, level: int) -> Cleaned:
        secret_object = is_secret_object(value)
        holder = names_value(value, lambda name: self._detector.kind_of_name(self._plain(name)))
        if hidden is not None and (refers(value) or is_schema(value)):
            hidden = None
        result: dict[str, Any] = {}
        counts = 0
        for raw_key, inner in value.items():
            key = self._plain(raw_key)  # judged as it will be read
            kind = hidden if hidden is not None and not tells_name(value, key) else self._detector.kind_of_name(key)
            if kind is not None and hidden is None and spares(kind, key, inner, value):
                kind = None
            if secret_object and key in ("data", "stringData"):
                kind = NameKind.SECRET
            elif holder is not None and key in holder[0]:
                kind = holder[1]
            elif is_private_part(key, value):
                kind = NameKind.KEY
            clean_key, key_count = self._key(key)
            if key == "encryptedData" and isinstance(inner, Mapping):  # of a SealedSecret: its names tell nothing
                parts = {name: self._walk(sealed, None, depth, level + 2) for name, sealed in inner.items()}
                result[clean_key] = {name: sealed for name, (sealed, _) in parts.items()}
                count = sum(found for _, found in parts.values())
            else:
                result[clean_key], count = self._part(inner, kind, depth, level + 1)
            counts += count + key_count
        return result, counts

    def _key(self, key: str) -> tuple[str, int]:
        return self._secrets(key, _DEPTH - 1) if len(key) >= 16 or "=" in key else (key, 0)

    def _plain(self, text: str) -> str:
        return cut(disarm(text), self._limit)

    def _hide(self, value: str, kind: NameKind, depth: int) -> Cleaned:
        """All of the text, unless it says that it holds no secret itself."""
        plain = disarm(value)
        data = plain.encode()
        if not plain.strip() or is_mark(data):
            return cut(plain, self._limit), 0
        if is_reference(data) or self._detector.is_allowed(data):
            return self._text(value, depth)
        return self._tell(kind, plain), 1

    def _text(self, text: str, depth: int) -> tuple[str, int]:
        if text in self._quiet:
            return text, 0
        # Cut last: half of a token has no shape any more.
        cleaned, count = self._secrets(disarm(text), depth)
        return cut(cleaned, self._limit), count

    def _secrets(self, text: str, depth: int) -> tuple[str, int]:
        """The harmless text without its secrets, and how many there were."""
        data = text.encode()
        if self._is_quiet(data):
            if len(text) <= 64:
                if len(self._quiet) >= _KNOWN:
                    self._quiet.clear()
                self._quiet.add(text)
            return text, 0
        if depth >= _DEPTH:
            return ("[redacted:nested]", 1) if self._is_wrapped(text) else self._shown(data)
        if text.lstrip()[:1] in ("{", "["):
            inner, count = self._json(text, depth)
            if count:
                return inner, count
        counts = 0
        for step in (self._manifests, self._tables, self._embedded, self._spans, self._wrapped, self._escaped):
            text, count = step(text, depth)
            counts += count
        return text, counts

    def _shown(self, data: bytes) -> tuple[str, int]:
        found = self._detector.find(data)
        return replace(data, found, self._mark).decode(), len(found)

    def _spans(self, text: str, _depth: int) -> tuple[str, int]:
        return self._shown(text.encode())

    def _is_wrapped(self, text: str) -> bool:
        data = text.encode()
        wrapped = any(pattern.search(data) for pattern in (_BASE64, _GZIP, _ESCAPED))
        return wrapped or (text.lstrip()[:1] in ("{", "[") and b"\\\\" in data)

    def _json(self, text: str, depth: int) -> tuple[str, int]:
        """JSON held in a text (a manifest in an annotation, a document in Redis): its structure says what is secret.
        Where nothing is, the text stays as it was written."""
        try:
            cleaned, count = self._walk(orjson.loads(text), None, depth + 1, _TOP)
            return orjson.dumps(cleaned).decode(), count
        except (orjson.JSONDecodeError, TypeError):
            return text, 0
        except RecursionError:
            return "[redacted:nested]", 1

    def _embedded(self, text: str, depth: int) -> tuple[str, int]:
        """JSON behind other words on a line, or on several lines."""
        if not ("{" in text and '"' in text):
            return text, 0
        first, last = text.find("{"), text.rfind("}") + 1
        if first < last:
            inner, count = self._json(text[first:last], depth)
            if count:
                return text[:first] + inner + text[last:], count
        if "\n" not in text:
            return text, 0
        lines, counts = [], 0
        for line in text.split("\n"):
            first, last = line.find("{"), line.rfind("}") + 1
            inner, count = self._json(line[first:last], depth) if 0 <= first < last else ("", 0)
            lines.append(line[:first] + inner + line[last:] if count else line)
            counts += count
        return ("\n".join(lines), counts) if counts else (text, 0)

    def _manifests(self, text: str, depth: int) -> tuple[str, int]:
        text, inline = hide_inline(text)
        if not SECRET_LINE.search(text):
            return text, inline
        text, counts = hide_manifests(text, lambda value: self._hide(value, NameKind.SECRET, depth)[0])
        return text, inline + counts

    def _tables(self, text: str, depth: int) -> tuple[str, int]:
        if not _TABLE.search(text):
            return text, 0
        return hide_columns(text, self._detector.kind_of_name, lambda value, kind: self._hide(value, kind, depth)[0])

    def _wrapped(self, text: str, depth: int) -> tuple[str, int]:
        """Runs of base64 that hold a secret, or compressed text: each goes as a whole."""
        data = text.encode()
        counts = 0
        for marker in (_GZIP, _BASE64):
            pieces: list[bytes] = []
            at = 0
            while (
                match := marker.search(data, max(0, at - 1))
            ) is not None:  # from the last run's `=`, which parts them
                begin = match.start(1)
                run = RUN.match(data, begin)
                end = run.end() if run else match.end()
                mark = self._open(data[begin:end], depth, packed=marker is _GZIP)
                pieces += [data[at:begin], mark or data[begin:end]]
                counts += mark is not None
                at = end
            data = b"".join([*pieces, data[at:]])
        return data.decode(), counts

    def _open(self, run: bytes, depth: int, *, packed: bool) -> bytes | None:
        inside = self._unpack(run) if packed else open_base64(run)
        if inside is not None and (told := self._tell_inside(inside, depth)) is not None:
            return told
        if packed:
            return None if inside is not None else b"[redacted:compressed]"
        parts = run.split()  # what looks like lines of one may be several
        return (
            next(filter(None, (self._open(part, depth, packed=False) for part in parts)), None) if parts[1:] else None
        )

    def _tell_inside(self, inside: str, depth: int) -> bytes | None:
        harmless = disarm(inside)
        cleaned, count = self._secrets(harmless, depth + 1)
        if not count:
            return None
        start = cleaned.find("[redacted:")
        told = cleaned[start : cleaned.find("]", start) + 1] if count == 1 and start >= 0 else "[redacted:encoded]"
        return told.encode()

    def _unpack(self, run: bytes) -> str | None:
        room = _ROOM.get()
        inside = open_gzip(run, room)
        _ROOM.set(room - (len(inside) if inside is not None else _FAILED))
        return inside

    def _escaped(self, text: str, depth: int) -> tuple[str, int]:
        """A text with escapes in it is read without them; it stays as it was written if that shows no secret."""
        data = text.encode()
        if not _ESCAPED.search(data):
            return text, 0
        plain = unescape(data).decode("utf-8", "replace")
        cleaned, count = self._secrets(disarm(plain), depth + 1)
        return (cleaned, count) if count > 0 else (text, 0)

    def _mark(self, found: Found, secret: bytes) -> bytes:
        return self._tell(found.kind, secret.decode("utf-8", "replace"), unsalted=found.unsalted).encode()

    def _tell(self, kind: str, secret: str, *, unsalted: bool = False) -> str:
        """What stands in the secret's place. A kind known by its shape says more than one told by a name. What is wrapped
        is opened, so that the same secret is told alike wherever and however it stands."""
        plain = secret.strip()
        if kind in _NAMED or kind == "authorization":
            opened = open_base64(plain.encode()) if _WHOLE_BASE64.fullmatch(plain) else None
            plain = plain if opened is None else opened.strip()
            if known := self._detector.kind_of_value(plain.encode()):
                kind, unsalted = known.kind, known.unsalted
            elif not _ONE_DRAWN.fullmatch(plain.partition(":")[2] or plain) or kind in (
                NameKind.CONNECTION,
                NameKind.COOKIE,
            ):
                unsalted = True
            elif kind == NameKind.PASSWORD:
                unsalted = _DIGEST.fullmatch(plain) is not None
        if kind in ("authorization", NameKind.CREDENTIAL) and ":" in plain:  # Basic: the user, then the password
            plain = plain.partition(":")[2]
        elif kind not in _NAMED and "%" in plain:
            plain = unquote(plain)
        told = self._fingerprints.of(plain) if self._fingerprints is not None and not unsalted else ""
        return f"[redacted:{kind}:{told}]" if told else f"[redacted:{kind}]"


def _detector_for(settings: RedactionSettings) -> Detector:
    if not (settings.patterns or settings.names or settings.allow):
        return default_detector()
    return Detector(settings.shapes, normalise_names(settings.names), frozenset(settings.allow))


def _may_hold_longer(dumped: bytes, limit: int) -> bool:
    """Whether some text of the JSON may be longer than that: whether so many bytes stand without a quote."""
    at = 0
    while len(dumped) - at > limit:
        found = dumped.rfind(b'"', at, at + limit)
        while found > at and dumped[found - 1] == _BACKSLASH:  # one within a text
            found = dumped.rfind(b'"', at, found)
        if found <= at:
            return True
        at = found
    return False


def _flatten(dumped: bytes) -> bytes | None:
    """JSON as its texts read, without the escapes of quotes and lines; None when it has others, which need a walk."""
    if b"\\" not in dumped:
        return dumped
    flat = dumped.replace(b"\\\\", b"\0").replace(b'\\"', b'"').replace(b"\\n", b"\n").replace(b"\\t", b"\t")
    return None if b"\\" in flat else flat.replace(b"\0", b"\\")
