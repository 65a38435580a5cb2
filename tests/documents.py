"""The reference documents, written from the code they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic.networks import IPvAnyNetwork
from pydantic_core import PydanticUndefined

from arborgate.server.settings import Settings
from arborgate.tools.all import TOOLS
from arborgate.tools.budget import ASKED
from arborgate.tools.redis.acl import READER_RULES, STATE_RULES, parent_rules

ANSWERS_MARK = "<!-- written from the code: do not edit below -->"
TOKEN_BYTES = 3
"""Bytes of an answer that make a token, on average; docs/answers.md says what was measured."""

HEAD = """# Settings

One YAML file: `--config`, else `$ARBORGATE_CONFIG`, else `arborgate.yaml`. An unknown key refuses to start and names the
nearest known one. Secrets are never in it: it names files that hold them. This page is written from the code.
"""

USERS_HEAD = """# The Redis users that Arborgate needs: include this file in redis.conf, or use ACL SETUSER.
# Replace each CHANGE-ME by the SHA-256 of a password of its own (printf %s "$PASSWORD" | sha256sum), and keep the
# password itself in the file that `state.password_file` or `redis[].password_file` of the settings names.
# This file is written from the code (tools/redis/acl.py); the tests run with the same rules.

# `default` is off, yet keeps its rights: a server with an append-only file replays what scripts wrote as `default`, and
# with fewer rights it would drop that at its next start (seen with Redis 7.0).
user default off ~* &* +@all

"""


def users_file() -> str:
    """deploy/redis/users.conf: the ACL of Arborgate's own keyspace, and of the reading that agents do."""
    lines = (
        "# Arborgate's own keyspace: proposals, sessions, the searchable record.",
        f"user arborgate on #CHANGE-ME {' '.join(STATE_RULES)}",
        "",
        "# The state that agents may read. Narrow ~* to the prefixes that apps own.",
        f"user arborgate-reader on #CHANGE-ME {' '.join(READER_RULES)}",
        "",
        "# The controller of a parent app, here main/argocd/shop: a user of its own for each. Needs Redis 7.",
        f"# user arborgate-parent-shop on #CHANGE-ME {' '.join(parent_rules('main/argocd/shop'))}",
    )
    return USERS_HEAD + "\n".join(lines) + "\n"


def answers_page() -> str:
    """docs/answers.md: as it is written, and behind its mark how large the answer of each tool may be."""
    written, mark, _ = (Path(__file__).parent.parent / "docs/answers.md").read_text().partition(ANSWERS_MARK)
    return written + mark + "".join(_budgets())


def _budgets() -> Iterator[str]:
    yield "\n\n| tool | bytes | tokens, about | bytes at most | tokens, about | pages by | narrower |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for tool in TOOLS:
        default, most = (
            tool.budget.default,
            tool.budget.most if ASKED in tool.params.model_fields else tool.budget.default,
        )
        pages = f"`{tool.page.count}`" if tool.page else ""
        cells = (
            f"`{tool.name}`",
            default,
            _estimate_tokens(default),
            most,
            _estimate_tokens(most),
            pages,
            tool.narrower,
        )
        yield f"| {' | '.join(map(str, cells))} |\n"


def _estimate_tokens(size: int) -> int:
    return round(size / TOKEN_BYTES / 100) * 100


def settings_page() -> str:
    """docs/settings.md: every setting with its type, default and meaning."""
    return HEAD + "".join(_sections(Settings, "", "Settings"))


def _sections(model: type[BaseModel], path: str, title: str) -> Iterator[str]:
    doc = (model.__doc__ or "").strip() if model is not Settings else ""
    inner: list[tuple[type[BaseModel], str]] = []
    rows = []
    for name, field in model.model_fields.items():
        nested, suffix = _model_in(field.annotation), _suffix(field.annotation)
        where = f"{path}{field.alias or name}"
        if nested is not None:
            inner.append((nested, f"{where}{suffix}."))
        if nested is None or _has_plain_values(field.annotation):
            kind = "text" if _writer(field) else _type(field.annotation)
            rows.append((where, kind, _default(field), _meaning(field)))
        else:
            kind = "list" if suffix.endswith("[]") else "mapping" if suffix else "section"
            rows.append((where, kind, "", _meaning(field)))
    yield f"\n## {title}\n"
    if doc:
        yield "\n" + " ".join(doc.split()) + "\n"
    yield "\n| setting | type | default | meaning |\n|---|---|---|---|\n"
    for where, kind, default, meaning in rows:
        yield f"| `{where}` | {kind} | {default} | {meaning} |\n"
    for nested, prefix in inner:
        yield from _sections(nested, prefix, f"`{prefix.rstrip('.')}`")


def _meaning(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _writer(field: FieldInfo) -> Callable[[Any], Any] | None:
    """What writes the setting as it is read, where that is not how it is held."""
    inner = [note for one in get_args(field.annotation) for note in getattr(one, "__metadata__", ())]
    found = next((note.func for note in (*field.metadata, *inner) if isinstance(note, PlainSerializer)), None)
    return cast("Callable[[Any], Any] | None", found)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        value = field.get_default(call_default_factory=True, validated_data={})
        return f"`{_plain(value)}`" if value else ""
    if field.default is PydanticUndefined:
        return "**needed**"
    if field.default in (None, "", ()):
        return ""
    write = _writer(field)
    return f"`{_plain(write(field.default) if write else field.default)}`"


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_plain(inner)}" for name, inner in value.items())
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), [one for one in get_args(annotation) if one not in (type(None), Ellipsis)]
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is not None and inner and hasattr(annotation, "__metadata__"):
        return _type(inner[0])
    if origin is not None:
        names_are = f" of {', '.join(inner[0])}" if issubclass(inner[0], StrEnum) else ""
        return f"mapping{names_are} to {_type(inner[1])}"
    names = {
        IPvAnyNetwork: "network",
        str: "text",
        bool: "true or false",
        int: "number",
        float: "number",
        _model_in(annotation): "section",
    }
    return names.get(annotation, str(getattr(annotation, "__name__", annotation)).lower())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for one in get_args(annotation):
        if (found := _model_in(one)) is not None:
            return found
    return None


def _has_plain_values(annotation: Any) -> bool:
    """Whether something else than a section can stand where a section can."""
    inner = [one for one in get_args(annotation) if one not in (type(None), Ellipsis)]
    if get_origin(annotation) in (Union, UnionType):
        return len({_model_in(one) is None for one in inner}) > 1
    return any(map(_has_plain_values, inner))


def _suffix(annotation: Any) -> str:
    """How to get from a setting to the section in it: `[]` into a list, `.<name>` into a mapping."""
    held = next((one for one in get_args(annotation) if _model_in(one) is not None), None)
    if held is None:
        return ""
    step = {tuple: "[]", Union: "", UnionType: ""}.get(get_origin(annotation), ".<name>")
    return step + _suffix(held)
