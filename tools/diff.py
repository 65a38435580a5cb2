"""What a change looks like to the person who approves it: a unified diff of the fields it touches, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import unified_diff
from typing import Any

import yaml

from .change import JsonObject
from .secrets import holds_secret, is_secret_name
from .text import disarm

WITHHELD = "(withheld)"
"""What stands in a diff in the place of a secret."""

_REFERENCE_KEY = re.compile(r"(?:existing|pull)[._-]?secrets?$|keyref$", re.IGNORECASE)
_REFERENCE = re.compile(r"\s*|true|false|null|\$\{[^}]*\}|\$\([^)]*\)|\$[A-Za-z_]\w*|\{\{.*\}\}|<path:[^>]*>|ref\+\S+")
_LINE = re.compile(r"^(\s*(?:- )?[\"']?([\w./-]+)[\"']?\s*[:=]\s*)(\S.*)$")


def list_fields(patch: JsonObject) -> tuple[str, ...]:
    """What a JSON merge patch writes, as RFC 6901 pointers: its scalars, its lists, its nulls."""
    return tuple(_leaves(patch, ""))


def overlap(one: str, other: str) -> bool:
    """Whether two pointers name the same field, or one lies in the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def diff_objects(
    before: JsonObject,
    after: JsonObject,
    fields: Iterable[str],
    *,
    name: str,
    names: tuple[str, str] = ("live", "planned"),
) -> str:
    """A unified diff of the two objects as YAML, restricted to `fields` (RFC 6901 pointers through mappings). `names` say
    what the two are.

    Secrets are withheld, and whatever is not printable ASCII is escaped: nothing in it can pose as something else."""
    pointers = tuple(fields)
    old, new = (_write_yaml(redact(_restrict(obj, pointers))[0]) for obj in (before, after))
    lines = unified_diff(old, new, f"{name} ({names[0]})", f"{name} ({names[1]})", lineterm="")
    return "\n".join(lines)


def find_secret(value: Any) -> str | None:
    """Where plain JSON data holds what looks like a secret, by key name or by shape; None when it holds none."""
    found = redact(value)[1]
    return found[0] if found else None


def redact(value: Any) -> tuple[Any, list[str]]:
    """The same data with its secrets withheld, and the pointers of what was withheld.

    Conservative: what merely looks like a secret counts as one. A reference (`secretName`, `$VAR`, a placeholder of a
    secrets plugin) does not."""
    found: list[str] = []
    return _redact(value, "", "", found), found


def _redact(value: Any, key: str, pointer: str, found: list[str]) -> Any:
    if isinstance(value, Mapping):
        # A list of {name, value}: Helm parameters, environment variables.
        named = value.get("name", value.get("key"))
        return {
            name: _redact(
                inner,
                str(named) if name == "value" and isinstance(named, str) else str(name),
                f"{pointer}/{_escape(str(name))}",
                found,
            )
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redact(inner, key, f"{pointer}/{index}", found) for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    plain = disarm(value)  # what is not drawn may stand within a secret
    kept = _redact_lines(plain) if "\n" in plain else WITHHELD if _is_secret(disarm(key), plain) else plain
    if kept == plain:
        return value
    found.append(pointer)
    return kept


def _redact_lines(text: str) -> str:
    """A block of YAML, properties or a shell file, line by line; a private key goes as a whole."""
    if "PRIVATE KEY-----" in text:
        return WITHHELD
    return "\n".join(_redact_line(line) for line in text.split("\n"))


def _redact_line(line: str) -> str:
    pair = _LINE.match(line)
    if pair is None:
        return WITHHELD if holds_secret(line) else line
    return pair[1] + WITHHELD if _is_secret(pair[2], pair[3].strip("\"'")) else line


def _is_secret(key: str, value: str) -> bool:
    if holds_secret(value):
        return True
    named = is_secret_name(key) and not _REFERENCE_KEY.search(key)
    return named and not _REFERENCE.fullmatch(value)


def _leaves(value: Any, pointer: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{pointer}/{_escape(key)}")
    else:
        yield pointer


def _restrict(obj: JsonObject, pointers: Iterable[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for pointer in pointers:
        source: Any = obj
        target = kept
        keys = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        for depth, key in enumerate(keys):
            if not isinstance(source, Mapping) or key not in source:
                break
            source = source[key]
            if depth + 1 == len(keys):
                target[key] = source
            else:
                target = target.setdefault(key, {})
    return kept


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


class _Dumper(yaml.SafeDumper):
    """Blocks of text as blocks, so that a diff shows the line that differs."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def _write_yaml(value: Any) -> list[str]:
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=False, width=1_000).splitlines() if value else []
