"""What the structure around a value says of it: Secret objects, {name, value} pairs, references, schemas, commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from ..tools.randomness import is_no_plain_word, looks_random
from ..tools.secret_names import NameKind

Judge = Callable[[str], NameKind | None]

_NAMES: Final = (
    "name",
    "key",
    "field",
    "header",
    "parameter",
    "param",
    "property",
    "variable",
    "option",
    "Name",
    "Key",
    "NAME",
    "KEY",
    "k",
)
_VALUES: Final = (
    "value",
    "content",
    "val",
    "Value",
    "VALUE",
    "data",
    "items",
    "fields",
    "default",
    "defaultValue",
    "default_value",
    "text",
    "v",
)

_REFERENCE_FIELDS: Final = frozenset(
    """
    name key namespace optional path items defaultMode mode secretName audience expirationSeconds property version kind
    apiGroup apiVersion group secretKeyRef configMapKeyRef secretRef configMapRef valueFrom fieldRef remoteRef existingSecret
    existingSecretKey secretStoreRef create annotations labels driver readOnly enabled source algorithm encoding size
    rotationPolicy
    """.split()  # noqa: SIM905
)
_SCHEMA_TYPES: Final = frozenset({"string", "object", "array", "integer", "number", "boolean", "null"})
_SCHEMA_FIELDS: Final = frozenset(
    """
    $ref additionalProperties allOf anyOf deprecated description format items maxLength maximum minLength minimum nullable
    oneOf pattern properties readOnly required title type writeOnly x-kubernetes-preserve-unknown-fields
    """.split()  # noqa: SIM905
)

_WORDS: Final = frozenset("- disabled enabled false n/a none null optional required string true".split())  # noqa: SIM905
"""What no field means as a secret, not even a password."""

_METHODS: Final = _WORDS | frozenset(
    """
    any aws azure basic bearer cert certificate digest external file gcp github gitlab google iam internal jwt
    kerberos key ldap mtls no oauth oauth2 off oidc okta on password proxy read saml scram scram-sha-256 spnego sso
    token trust vault withheld write yes
    """.split()  # noqa: SIM905
)
"""What `auth: …` says when it names a method."""

_COMMANDS: Final = frozenset(
    {"requirepass", "masterauth", "primaryauth", "sentinel-pass", "tls-key-file-pass", "tls-client-key-file-pass"}
)
_HEADER = re.compile(
    r"(?i)(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:auth|key|password|secret|token)|private-token"
)
_JWK_PRIVATE: Final = frozenset("d dp dq k oth p q qi".split())  # noqa: SIM905
_LONGEST_COMMAND: Final = 8_192
_PAIRED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_PLACE = re.compile(r"[a-z][a-z0-9-]*(?:/[a-z0-9_.-]+)+")
_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)")

SECRET_LINE = re.compile(r"^[ \t+-]*[\"']?kind[\"']?\s*:\s*[\"']?Secret(?:List)?\b", re.MULTILINE)
_HEAD = re.compile(r"[A-Za-z_][\w.-]{0,60}(?: [\w.-]{1,30}){0,2}")
_NO_CELL = re.compile(r"|.*\s.*|\[redacted:.*")
_RULE = re.compile(r"[\s|:+=-]*")
TABLE = r"(?i:(?:^|[|,\n])[ \t`*\"]*[\w -]{0,40}(?:pass|pwd|secret|token|key|cred)\w*[ \t`*\"]*(?:[|,][^\n]*)?\r?\n)"
"""RE2: what may be the head of a table in which a column holds secrets."""

_INLINE_SECRET = re.compile(r"\bkind[\"']?\s*:\s*[\"']?Secret(?:List)?\b")
_INLINE_DATA = re.compile(r"\b(?:data|stringData)[\"']?\s*:\s*\{")
_BLOCK = re.compile(r"^([ \t+-]*)[\"']?(?:data|stringData)[\"']?\s*:\s*(.*)$")
_ENTRY = re.compile(r"^([ \t+-]*)([\"']?[\w./-]+[\"']?\s*:)\s*(.*)$")


def is_secret_object(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is a Kubernetes Secret; one of a list does not always say so of itself, but has a type."""
    if value.get("kind") in ("Secret", "SecretList"):
        return True
    kind = value.get("type")
    typed = isinstance(kind, str) and (kind in ("Opaque", "helm.sh/release.v1") or "kubernetes.io/" in kind)
    return typed and "kind" not in value


def is_private_part(key: str, within: Mapping[str, Any]) -> bool:
    """Whether the field is the private part of a JSON web key, or what Terraform drew as a password."""
    return (key in _JWK_PRIVATE and "kty" in within) or (key == "result" and "bcrypt_hash" in within)


def names_value(value: Mapping[str, Any], judge: Judge) -> tuple[frozenset[str], NameKind] | None:
    """Of `{name: DB_PASSWORD, value: …}` (a variable, a Helm parameter, a header, a field): which keys hold the secret."""
    for name in _NAMES:
        named = value.get(name)
        if isinstance(named, str) and (kind := judge(named)) is not None:
            held = frozenset(
                key
                for key in _VALUES
                if key in value and not (isinstance(value[key], str) and spares_word(kind, value[key]))
            )
            if held:
                return held, kind
    return None


def tells_name(value: Mapping[str, Any], key: str) -> bool:
    """Whether the field only names what the others hold, in a mapping that is hidden: of `{name: x, value: y}` the name."""
    return key in ("name", "id", "type", "score") and "value" in value


def refers(value: Mapping[str, Any]) -> bool:
    """Whether a mapping under a telling name only says where the secret is: `{secretName: db}`, `{name: db, key: pw}`."""
    return _REFERENCE_FIELDS.issuperset(value)


def is_schema(value: Mapping[str, Any]) -> bool:
    """Whether a mapping under a telling name is a JSON schema of the field: `{type: string}`."""
    kind = value.get("type")
    typed = (
        kind in _SCHEMA_TYPES if isinstance(kind, str) else isinstance(kind, list) and _SCHEMA_TYPES.issuperset(kind)
    )
    return (typed or "$ref" in value) and _SCHEMA_FIELDS.issuperset(value)


def secret_items(values: Sequence[Any], judge: Judge) -> dict[int, NameKind]:
    """Of a list of texts, which are secrets for what stands before them: `[requirepass, x]`, `[--password, x]`,
    `[Authorization, x]`, `[AUTH, user, x]`, `[user, ada, password, x]`, `[passwords, [x, y]]`."""
    if not values or not isinstance(values[0], str):
        return {}
    if not all(isinstance(item, str) for item in values):
        named = ((index, judge(item)) for index, item in enumerate(values[:-1]) if isinstance(item, str))
        return {index + 1: kind for index, kind in named if kind is not None and isinstance(values[index + 1], list)}
    found: dict[int, NameKind] = {}
    for index, item in enumerate(values[:-1]):
        option = _OPTION.fullmatch(item)
        follows = not values[index + 1].startswith("-")
        if item.lower() in _COMMANDS or (len(values) == 2 and _HEADER.fullmatch(item)):
            found[index + 1] = NameKind.PASSWORD if item.lower() in _COMMANDS else NameKind.CREDENTIAL
        elif option and follows and (kind := judge(option[1])) is not None:
            found[index + 1] = kind
        elif index % 2 == 0 and len(values) % 2 == 0 and _is_pair(item, values[index + 1]):
            kind = judge(item)
            found |= {} if kind is None else {index + 1: kind}
    if len(values) in (2, 3) and (values[0] == "AUTH" or (values[0] == "auth" and is_no_plain_word(values[-1]))):
        found[len(values) - 1] = NameKind.PASSWORD
    return found


def _is_pair(name: str, value: str) -> bool:
    """Whether two texts in a row may be a field and its value, and not two names: of rights, of tags, of columns."""
    return bool(_PAIRED.fullmatch(name)) and is_no_plain_word(value) and not _PLACE.fullmatch(value)


def join_command(values: Sequence[Any]) -> str:
    """The words of a command as one line, `""` where a list is none."""
    if len(values) < 3 or not all(isinstance(item, str) and len(item) < _LONGEST_COMMAND for item in values):
        return ""
    line = " ".join(values)
    return line if " -" in line and "\n" not in line and len(line) < _LONGEST_COMMAND else ""


def hide_inline(text: str) -> tuple[str, int]:
    """Secrets that stand on one line and are no JSON, since they are cut off or YAML: hidden from their data on."""
    lines, counts = text.split("\n"), 0
    for number, line in enumerate(lines):
        data = _INLINE_DATA.search(line) if _INLINE_SECRET.search(line) else None
        if data is not None and not _is_json(line[line.find("{") : line.rfind("}") + 1]):
            lines[number] = line[: data.end()] + "[redacted:secret]"
            counts += 1
    return ("\n".join(lines), counts) if counts else (text, 0)


def hide_columns(text: str, judge: Judge, hide: Callable[[str, NameKind], str]) -> tuple[str, int]:
    """Tables of text (CSV, Markdown, of a database) with the values of each column hidden whose head tells."""
    lines, counts = text.split("\n"), 0
    mark, kinds = "", list[NameKind | None]()
    for number, line in enumerate(lines):
        cells = line.split(mark) if mark else []
        if _RULE.fullmatch(line):
            continue
        if len(cells) != len(kinds) or not mark:
            mark, kinds = _read_heads(line, judge)
            continue
        for at, kind in enumerate(kinds):
            word = cells[at].strip(" \t`*\"'\r")
            if kind is not None and not _NO_CELL.fullmatch(word) and _is_cell(kind, word):
                cells[at] = cells[at].replace(word, hide(word, kind))
                counts += 1
        lines[number] = mark.join(cells)
    return ("\n".join(lines), counts) if counts else (text, 0)


def _is_cell(kind: NameKind, word: str) -> bool:
    """Whether a cell holds the secret that its column tells, and not the name of one: `| secret |`, `| orders-db |`."""
    return not spares_word(kind, word) and (kind is NameKind.PASSWORD or is_no_plain_word(word))


def _read_heads(line: str, judge: Judge) -> tuple[str, list[NameKind | None]]:
    """What parts the cells of a table and what its columns hold; `""` when the line is no head of one that tells."""
    mark = "|" if "|" in line else ","
    heads = [cell.strip(" \t`*\"'\r") for cell in line.split(mark)]
    kinds = [judge(head) if head else None for head in heads]
    return (mark, kinds) if any(kinds) and all(not head or _HEAD.fullmatch(head) for head in heads) else ("", [])


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def spares(kind: NameKind, key: str, value: object, within: Mapping[str, Any]) -> bool:
    """Whether what stands under a telling name is no secret: `auth: oidc`, `pass: 12`, a section of settings."""
    match value:
        case str():
            external = key == "secretKey" and "remoteRef" in within  # of an ExternalSecret
            return external or spares_word(kind, value) or (kind is NameKind.SECRET and _is_place(value))
        case bool() | None:
            return True
        case int() | float():
            return key == "pass" or key.endswith(("tokens", "Tokens")) or spares_number(kind, value)
        case Mapping():
            return key in ("auth", "authorization")
    return False


def _is_place(text: str) -> bool:
    """Whether it says where a secret is: `shop/basic-auth`, `database/creds/orders`."""
    return _PLACE.fullmatch(text) is not None and not looks_random(text)


def spares_word(kind: NameKind, text: str) -> bool:
    """Whether a value is a word of configuration, which nobody would hide: `auth: oidc`, `token: none`."""
    return text.strip().lower() in (_WORDS if kind is NameKind.PASSWORD else _METHODS)


def spares_number(kind: NameKind, number: float) -> bool:
    """Whether a number is too small for anything but a count or a number of seconds."""
    return abs(number) < 1_000 and kind is not NameKind.PASSWORD


def hide_manifests(text: str, hide: Callable[[str], str]) -> tuple[str, int]:
    """YAML that holds Secrets, with the values of each `data` and `stringData` hidden: line by line, so that a file that
    is cut off, or that is only nearly YAML, is treated alike. A document with a Secret in it has no other data shown."""
    counts = 0
    documents = text.split("\n---")
    for number, document in enumerate(documents):
        if SECRET_LINE.search(document):
            documents[number], count = _hide_manifest(document, hide)
            counts += count
    return ("\n---".join(documents), counts) if counts else (text, 0)


def _hide_manifest(text: str, hide: Callable[[str], str]) -> tuple[str, int]:
    kept: list[str] = []
    block = entry = -1
    counts = 0
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" \t+-"))
        if block >= 0 and line.strip() and indent <= block:
            block = entry = -1
        if block < 0:
            head = _BLOCK.match(line)
            block = indent if head is not None else block
            inline = head is not None and head[2].strip() not in ("", "{}")
            kept.append(line[: head.start(2)] + hide(head[2]) if head is not None and inline else line)
            counts += inline
            continue
        row = _ENTRY.match(line)
        if row is None or (entry >= 0 and indent > entry):  # of a value that goes on
            continue
        entry = indent
        value = row[3].strip().strip("\"'")
        shown = hide(value) if value not in ("", "|", "|-", ">", ">-", "|+") else "[redacted:secret]"
        kept.append(f"{row[1]}{row[2]} {shown}")
        counts += shown != value
    return "\n".join(kept), counts
