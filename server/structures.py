"""What the structure around a value says of it: Secret objects, {name, value} pairs, references, schemas, commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

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
)
_VALUES: Final = ("value", "content", "val", "Value", "data", "items", "fields")

_REFERENCE_FIELDS: Final = frozenset(
    """
    name key namespace optional path items defaultMode mode secretName audience expirationSeconds property version kind
    apiGroup apiVersion group secretKeyRef configMapKeyRef secretRef configMapRef valueFrom fieldRef remoteRef existingSecret
    existingSecretKey secretStoreRef create annotations labels driver readOnly enabled source
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
    any aws azure basic bearer cert certificate digest external file gcp github gitlab google iam internal jwt kerberos key
    ldap mtls no oauth oauth2 off oidc okta on password proxy saml scram scram-sha-256 spnego sso token trust vault withheld
    yes
    """.split()  # noqa: SIM905
)
"""What `auth: …` says when it names a method."""

_COMMANDS: Final = frozenset(
    {"requirepass", "masterauth", "primaryauth", "sentinel-pass", "tls-key-file-pass", "tls-client-key-file-pass"}
)
_HEADER = re.compile(
    r"(?i)(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:auth|key|password|secret|token)|private-token"
)
_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)")

SECRET_LINE = re.compile(r"^[ \t+-]*[\"']?kind[\"']?\s*:\s*[\"']?Secret(?:List)?\b", re.MULTILINE)
_BLOCK = re.compile(r"^([ \t+-]*)[\"']?(?:data|stringData)[\"']?\s*:\s*(.*)$")
_ENTRY = re.compile(r"^([ \t+-]*)([\"']?[\w./-]+[\"']?\s*:)\s*(.*)$")


def names_value(value: Mapping[str, Any], judge: Judge) -> tuple[str, NameKind] | None:
    """Of `{name: DB_PASSWORD, value: …}` (a variable, a Helm parameter, a header, a field): which key holds the secret."""
    for name in _NAMES:
        named = value.get(name)
        if isinstance(named, str) and (kind := judge(named)) is not None:
            for key in _VALUES:
                if key in value and not (isinstance(value[key], str) and spares_word(kind, value[key])):
                    return key, kind
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
    `[Authorization, x]`, `[AUTH, user, x]`."""
    if not values or not isinstance(values[0], str) or not all(isinstance(item, str) for item in values):
        return {}
    found: dict[int, NameKind] = {}
    for index, item in enumerate(values[:-1]):
        option = _OPTION.fullmatch(item)
        follows = not values[index + 1].startswith("-")
        if item.lower() in _COMMANDS or (len(values) == 2 and _HEADER.fullmatch(item)):
            found[index + 1] = NameKind.PASSWORD if item.lower() in _COMMANDS else NameKind.CREDENTIAL
        elif option and follows and (kind := judge(option[1])) is not None:
            found[index + 1] = kind
    if values[0].lower() == "auth" and len(values) in (2, 3):
        found[len(values) - 1] = NameKind.PASSWORD
    return found


def spares(kind: NameKind, key: str, value: object, within: Mapping[str, Any]) -> bool:
    """Whether what stands under a telling name is no secret: `auth: oidc`, `pass: 12`, a section of settings."""
    match value:
        case str():
            return spares_word(kind, value) or (key == "secretKey" and "remoteRef" in within)  # of an ExternalSecret
        case bool() | None:
            return True
        case int() | float():
            return key == "pass" or key.endswith(("tokens", "Tokens")) or spares_number(kind, value)
        case Mapping():
            return key in ("auth", "authorization")
    return False


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
