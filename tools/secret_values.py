"""Where the value behind a telling name ends, and which values are no secrets: references, placeholders, plain words."""

from __future__ import annotations

import re
from typing import Final

from .randomness import is_no_word, looks_random
from .secret_names import NameKind

LONGEST_JUDGED: Final = 2_048
"""A longer value is a secret whatever it says."""

_POINTER = rb"""\$\{[^}:]{0,200}\}|
    \$\{[A-Za-z_][\w.]{0,100}:-?\}|\$\([^)]{0,200}\)|\$[A-Z_][A-Z0-9_]*|\$\d{1,2}|%[A-Z_][A-Z0-9_]*%|%\(\w+\)s|%[svq]|
    \{\{[^}\n]{0,300}\}\}\}?|\{(?:[A-Za-z_]*|\d{1,2})\}|
    \$\{\{[^}\n]{0,300}\}\}|<path:[^>\n]{0,300}>|<[A-Za-z][A-Za-z0-9 ._-]{0,60}>|ref\+\S+|
    (?:vault|op|secret|awssm|gcpsm|azkv|doppler|keyring|sops|file):(?://?)?[\w./-]+(?:\#[\w.-]+)?|arn:aws[a-z-]*:[^\s"'']+|
    projects/[^/\s]+/secrets/[^\s"']+|@Microsoft\.KeyVault\([^)]{0,300}\)|ENC\[[A-Z0-9_]+,[^\]]{0,400}\]|
    \.{1,2}/[\w./-]+|/(?:app|config|data|dev|etc|home|mnt|opt|proc|root|run|secrets|srv|tmp|usr|var|vault)/[\w./-]+|
    (?:env|process\.env|os\.environ|os\.getenv|getenv|System\.getenv|ENV|var|local|settings|secrets|self|this)(?:\.[\w.]+|
    [\[(][^\])\n]{0,120}[\])])|[a-z_][a-z0-9_.]*\(\)|[a-z]\w*(?:\.\w+)+\([^)\n]{0,120}\)+|
    (?:data|module|random_\w+|aws_\w+|azurerm_\w+|google_\w+|kubernetes_\w+|vault_\w+)\.[\w.\[\]]+|
    \*{2,}|\.{3,}|x{3,}|X{3,}|\([a-z ]{1,20}\)|
    :(?:param|password|passwd|pwd|secret|token|value)\w*|
    <?\[?(?:redacted|REDACTED|hidden|filtered|FILTERED|masked|MASKED)\]?>?""".replace(b"\n    ", b"")

_REFERENCE = re.compile(
    rb"\s*|"
    + _POINTER
    + rb"""|(?:valueFrom|secretKeyRef|configMapKeyRef):?|!(?:vault|secret|env)\b.*|
    string|str|bytes|\[\]byte|boolean|bool|integer|int|number|object|null|nil|none|None|undefined|true|True|false|False|SecretStr|
    \?|\|[+-]?|>[+-]?|\{|\[|\}|\]|\{\}|\[\]|""|''""".replace(b"\n    ", b""),
    re.DOTALL,
)
"""A value that only says where the secret is, what sort of thing it is, or that it was taken out."""

_SAID: Final = frozenset(
    b"""
    a about absent accepted access across added after again ago all already also an and any are as ask asked at
    authentication automatically basic be bearer been before being but by can cannot changed check checked copied
    could created default delete deleted denied dial did disabled do does done empty enabled error exceeded exists
    expired expires expiry failed failure fetched for found from generated get given granted had has have head iam
    if in incorrect invalid is issued it its kerberos key ldap length like limit loaded lookup may method mismatch
    missing mounted mtls must mutable name need needed needs neither never new no not now oauth oauth2 of off oidc
    ok on only optional or our out passed patch permission please policy post present provided put read refused
    rejected required requires reset retrieved returned revoked rotated same saml see sent set should since so some
    stale store stored succeeded that the their then there these they this to too type unable unauthorized unchanged
    unexpected unknown unset until updated updating use used uses using valid validated validation verified via was
    we were what when where which who why will with without would write wrong yes you your
    """.split()
)
"""How a sentence goes on that speaks about a secret (`token: expired`). As a password each would be a poor one."""

_TAG = re.compile(rb"v?\d+(?:\.\d+)*(?:[-+._][\w.+-]*)?|latest|stable|edge|nightly|main|master|dev|alpine\S*|sha256.*")
_PREFIX = re.compile(rb"(?:<%=\s{0,8})?[bfru]{0,2}[\"']")
_COUNTED = re.compile(rb"(?i:tokens|secrets):[ \t]")
_AMOUNT = re.compile(rb"\d+ bytes\b")  # `password:  24 bytes`, as `kubectl describe` shows a Secret
_FLOW = re.compile(rb"\{\s{0,3}[\"']?[A-Za-z][\w.-]{0,60}[\"']?: ")
_PASSED = re.compile(rb"(?i:pass)[\"']?: \d{1,4}")  # tests
_TYPE = re.compile(rb"[*&]?[A-Z][A-Za-z]+(?:\[\w+\])?[,):]")
_WORD = re.compile(rb"[A-Za-z']+")
_ENDS = re.compile(rb"[\s\"'`<>&]|[,;|]\s{0,3}[\w.-]{1,40}[=:]")
_ENDS_QUERY = re.compile(rb"[\s\"'`<>&#]")
_FIELDS = re.compile(rb"[\s,;&][\w.-]{1,40}[=:]|[\"'`<>{]")
_PLAIN = re.compile(rb"[a-z]+(?:[ -][a-z]+){0,30}\.?")
_POINTS = re.compile(rb"(?:" + _POINTER + rb")(?=[\\s\"'`,;)&@|}\\\\]|$)")
_BARE_NAME = re.compile(rb"[A-Za-z]+\b[^\w.-]|[A-Z][a-z]+:")
_WORD_ENDS: Final = (b"", b" ", b"\n", b",", b".", b";", b":", b")", b'"', b"'", b"`", b"\\")
_LINE_HEAD = re.compile(rb"[ \t+#;-]*(?:export |set |ENV |ARG |local |const |var |let )?[\"']?$")


def ends_value(data: bytes, name_at: int, at: int) -> tuple[int, int, bool]:
    """Start and end of the value at `at`, and whether it is quoted. `name_at` is where its name begins.

    Looks no further than the value goes, or `LONGEST_JUDGED` bytes, so that many values cost no more than their text."""
    if (prefix := _PREFIX.match(data, at)) is not None:
        at = prefix.end() - 1
    opened = _opening(data, at)
    if opened:
        start = at + len(opened)
        return start, _closing(data, start, opened), True
    if data[at : at + 1] in (b"|", b">") and _is_block(data, at):
        return (*_block(data, name_at, at), True)
    if (pointer := _POINTS.match(data, at)) is not None:
        return at, pointer.end(), False
    before = data[max(0, name_at - 200) : name_at]
    before = before[before.rfind(b"\n") + 1 :]
    if (end := _ends_line(data, at)) is not None and _LINE_HEAD.fullmatch(before):
        return at, end, False
    ends = _ENDS_QUERY if before[-1:] in (b"?", b"&") else _ENDS
    found = ends.search(data, at)
    return at, at + len(_trim(data[at : found.start() if found else len(data)])), False


def _trim(value: bytes) -> bytes:
    """Without what closes something around the value, which has not opened it."""
    for opens, closes in ((b"{", b"}"), (b"(", b")"), (b"[", b"]"), (b"\x00", b",;|\\")):
        if opens not in value:
            value = value.rstrip(closes + b",;|\\")
    return value


def is_reference(value: bytes) -> bool:
    """Whether the value is only a reference, a placeholder or the name of a type."""
    return len(value) <= LONGEST_JUDGED and _REFERENCE.fullmatch(value) is not None


def is_not_said(value: str) -> bool:
    """Whether a word behind a command's or a directive's name goes on with it: `requirepass is not set`."""
    return value.encode().lower().rstrip(b".,:;") not in _SAID


def is_cookie(text: str) -> bool:
    """Whether cookies are given there, and not spoken of: `Cookie: SameSite=Lax is needed`."""
    return not text.lower().startswith(("samesite=", "path=", "domain=", "max-age=", "expires=", "secure"))


def is_said(kind: NameKind, data: bytes, name_at: int, start: int, end: int) -> bool:
    """Whether what follows the name is a sentence about the secret: `token: expired`, `password: must be changed`."""
    if _FLOW.match(data, start) is not None:  # what is in it has names of its own
        return True
    word = _WORD.match(data, start, min(end, start + 24))
    if word is not None and word[0].lower() in _SAID and data[word.end() : word.end() + 1] in _WORD_ENDS:
        return True
    if _AMOUNT.match(data, start, end) is not None or _PASSED.fullmatch(data, name_at, end) is not None:
        return True
    if data[max(0, name_at - 9) : name_at] == b"checksum/":  # of a manifest, by which pods are restarted
        return True
    if kind is NameKind.PASSWORD or data[start - 1 : start] == b"=":
        return False
    value = data[start:end]
    text = value.decode("utf-8", "replace")
    head = data[name_at:start].rstrip(b" \t")
    if len(value) < 4:
        said = True
    elif kind is NameKind.COOKIE:
        said = not is_cookie(text)
    elif head.rstrip(b":= ").lower().endswith(b"auth"):
        said = b"=" in value[:-2] or len(value) < 8 or not is_no_word(text)
    elif _COUNTED.match(data, name_at):  # `tokens: 1200 of 4000`, `Mountable secrets: orders-token-x7k2p`
        said = not looks_random(text)
    else:  # `Secret: db-credentials`, `authorization: failed`: a name or a word, and not what such fields hold
        loose = head[-1:] == b":" and data[start - 1 : start] in (b" ", b"\t")
        said = loose and _BARE_NAME.match(data, name_at) is not None and _PLAIN.fullmatch(value) is not None
    return said


def is_tag(kind: NameKind, data: bytes, name_at: int, start: int, end: int) -> bool:
    """Whether the "name" is the last part of an image or another path and the "value" its tag: `acme/app-secret:v1`."""
    if _TYPE.match(data, start) and data[max(0, name_at - 2) : name_at].endswith((b", ", b"(")):
        return True
    if data[start - 1 : start] != b":":
        return False
    if data[max(0, name_at - 1) : name_at] == b"/":
        return True
    value = data[start:end]
    tag = _TAG.fullmatch(value) is not None or _PLAIN.fullmatch(value.split(b"/")[0]) is not None
    return kind is not NameKind.PASSWORD and tag


def _opening(data: bytes, at: int) -> bytes:
    """The quote that opens the value, with the backslashes before it: one level of nesting adds one or more."""
    end = at
    while data[end : end + 1] == b"\\":
        end += 1
    quote = data[end : end + 1]
    return data[at : end + 1] if quote in (b'"', b"'", b"`") and quote else b""


def _closing(data: bytes, start: int, opened: bytes) -> int:
    at = start
    quote = opened[-1:]
    while (at := data.find(quote, at)) >= 0:
        slashes = at
        while slashes > start and data[slashes - 1 : slashes] == b"\\":
            slashes -= 1
        if at - slashes <= len(opened) - 1:
            return slashes if len(opened) > 1 else at
        at += 1
    return _find(data, b"\n", start)


def _is_block(data: bytes, at: int) -> bool:
    return data[at + 1 : at + 8].partition(b"\n")[0].strip() in (b"", b"-", b"+", b"2", b"4", b"2-", b"-2")


def _block(data: bytes, name_at: int, at: int) -> tuple[int, int]:
    """The lines of a YAML block: those indented further than the line that holds its name."""
    line = data.rfind(b"\n", 0, name_at) + 1
    indent = len(data[line:name_at]) - len(data[line:name_at].lstrip(b" "))
    begin = end = _find(data, b"\n", at)
    while end < len(data):
        next_end = _find(data, b"\n", end + 1)
        row = data[end + 1 : next_end]
        if row.strip() and len(row) - len(row.lstrip(b" ")) <= indent:
            break
        end = next_end
    return begin, end


def _ends_line(data: bytes, at: int) -> int | None:
    """Where the line ends if the rest of it is one value, as in YAML and .env files, and not the first of several."""
    rest = data[at : at + LONGEST_JUDGED]
    line, parted, _ = rest.partition(b"\n")
    if (not parted and len(rest) == LONGEST_JUDGED) or _FIELDS.search(line):
        return None
    return at + len(line.rstrip())


def _find(data: bytes, what: bytes, at: int) -> int:
    found = data.find(what, at)
    return len(data) if found < 0 else found
