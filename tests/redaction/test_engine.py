"""The engine: what stays readable, what a platform team adds, and that no input costs more than its length."""

from __future__ import annotations

import base64
import gzip
import json
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import re2

from arborgate.policies.errors import BadConfiguration
from arborgate.server.redaction import Redactor
from arborgate.server.redaction_settings import RedactionSettings, SecretPattern
from arborgate.server.settings import parse_settings
from arborgate.tools.secret_places import PLACES
from arborgate.tools.secret_shapes import SHAPES
from arborgate.tools.secrets import default_detector
from tests.redaction.corpus import planted
from tests.redaction.planted import draw_secrets


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor()


def test_every_hint_matches_wherever_its_pattern_does() -> None:
    texts = [json.dumps(one.value).encode() for one in planted(4)]
    texts += [one.value.encode() for one in planted(4) if isinstance(one.value, str)]
    texts += [secret.encode() for _, secret in draw_secrets(4, named=True)]
    for shape in (*SHAPES, *PLACES):
        pattern, hint = re2.compile(shape.pattern), re2.compile(shape.hint)
        for text in texts:
            assert hint.search(text) or not pattern.search(text), (shape.kind, text)


def test_the_table_of_shapes_is_sorted_and_large() -> None:
    kinds = [shape.kind for shape in SHAPES]
    assert kinds == sorted(kinds)
    assert len(set(kinds)) >= 45


def test_each_pattern_has_one_group_at_most() -> None:
    assert all(re2.compile(shape.pattern).groups <= 1 for shape in (*SHAPES, *PLACES))


def test_what_a_secret_is_referred_to_by_stays_readable(redactor: Redactor) -> None:
    value = {"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "orders-db", "key": "password"}}}]}
    assert redactor.clean(value) == (value, 0)
    assert redactor.clean(value)[0] is value


def test_the_text_around_a_secret_stays_readable(redactor: Redactor) -> None:
    text = "dial postgres://app:hunter2@db.example:5432/orders?sslmode=disable failed"
    assert redactor.clean_text(text) == (
        "dial postgres://app:[redacted:url_password]@db.example:5432/orders?sslmode=disable failed"
    )
    assert redactor.clean_text("level=info password=hunter2 user=ada") == (
        "level=info password=[redacted:password] user=ada"
    )
    assert redactor.clean_text("Server=db;Password=hunter2;Database=orders") == (
        "Server=db;Password=[redacted:password];Database=orders"
    )


@pytest.mark.parametrize("text", ["password=hunter2", '{"token": "a1b2c3d4"}', "redis://:pw@r:6379", "Cookie: a=b"])
def test_what_was_cleaned_is_clean(redactor: Redactor, text: str) -> None:
    once = redactor.clean_text(text)
    assert redactor.clean_text(once) == once
    assert redactor.clean({"m": once})[1] == 0


def test_what_is_wrapped_deeper_than_any_source_writes_is_hidden_whole(redactor: Redactor) -> None:
    text = "password=hunter2hunter2"
    for _ in range(9):
        text = base64.b64encode(text.encode()).decode()
    assert redactor.clean_text(text) == "[redacted:nested]"


@pytest.mark.parametrize("plus", ["%2B", "\\u002b", "\\/"])
def test_a_secret_goes_on_behind_an_escaped_character(redactor: Redactor, plus: str) -> None:
    token = "IQoJb3" + "JpZ2lu" + "aB3" * 20 + plus + "cD4" * 9
    assert redactor.clean_text(f"x={token}&y=1") == "x=[redacted:aws_session_token]&y=1"


def test_runs_of_base64_behind_each_other_are_all_opened(redactor: Redactor) -> None:
    run = base64.b64encode(b"password=hunter2").decode()
    assert redactor.clean_text(run * 3) == "[redacted:password]" * 3


def test_json_nested_too_deep_to_read_is_no_way_around(redactor: Redactor) -> None:
    deep = "[" * 900 + '{"password": "planted"}' + "]" * 900
    assert "planted" not in redactor.clean_text(deep)


def test_what_unpacks_without_end_is_hidden(redactor: Redactor) -> None:
    bomb = base64.b64encode(gzip.compress(b"x" * 30_000_000)).decode()
    assert redactor.clean_text(f"release {bomb} kept") == "release [redacted:compressed] kept"


def test_a_platform_team_adds_patterns_and_names() -> None:
    redactor = Redactor(
        RedactionSettings(
            patterns=(SecretPattern(kind="acme_badge", pattern=r"\bACME-([0-9]{6})\b"),), names=("launchCode",)
        )
    )
    cleaned, count = redactor.clean({"LAUNCH_CODE": "x", "text": "badge ACME-123456, launch-code: y1z2"})
    assert cleaned == {
        "LAUNCH_CODE": "[redacted:secret]",
        "text": "badge ACME-[redacted:acme_badge], launch-code: [redacted:secret]",
    }
    assert count == 3


def test_a_platform_team_allows_one_value_and_one_name() -> None:
    example = "AKIA" + "IOSFODNN7EXAMPLE"
    redactor = Redactor(RedactionSettings(allow=(example, "tokenBucketSecret")))
    value = {"key": example, "token_bucket_secret": "seven", "text": f"use {example}"}
    assert redactor.clean(value) == (value, 0)
    assert redactor.clean({"text": f"use {example[:-1]}X"})[1] == 1
    assert redactor.clean({"tokenBucketSecret": "ghp_" + "aB3" * 12})[1] == 1  # what its shape tells is not allowed


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"patterns": [{"kind": "x1", "pattern": "("}]}, "is no RE2 pattern"),
        ({"patterns": [{"kind": "x1", "pattern": "(?=a)b"}]}, "is no RE2 pattern"),
        ({"patterns": [{"kind": "x1", "pattern": "(a)(b)"}]}, "2 groups"),
        ({"patterns": [{"kind": "x1", "pattern": "a*"}]}, "matches the empty text"),
        ({"patterns": [{"kind": "No Kind", "pattern": "a"}]}, "kind"),
        ({"names": ["x"]}, "too short"),
        ({"allow": ["password"]}, "one word"),
        ({"allow": ["a-b"]}, "too short"),
    ],
)
def test_a_bad_section_refuses_to_start_and_says_why(section: dict[str, Any], told: str) -> None:
    with pytest.raises(BadConfiguration, match=told):
        parse_settings({"redaction": section})


def _nest(size: int) -> str:
    text = "x" * (size // 64)
    for _ in range(6):
        text = json.dumps({"a": text, "password": "p" * (size // 64)})
    return text


HOSTILE: dict[str, Callable[[int], str]] = {
    "names": lambda size: "password=" * (size // 9),
    "names refused": lambda size: "/secret:a" * (size // 9),
    "names in quotes": lambda size: 'password="' * (size // 10),
    "fields": lambda size: "password=a," * (size // 11),
    "one line of references": lambda size: "token=$X " * (size // 9),
    "blocks": lambda size: "password: |\n" * (size // 12),
    "beginnings": lambda size: ("eyJabcdefghijk-AKIA" + "A" * 16 + "-") * (size // 36),
    "URLs without an end": lambda size: ("a://u:pX/AKIA" + "A" * 16 + "/") * (size // 30),
    "commands": lambda size: "mysql docker login curl -u a " * (size // 29),
    "braces": lambda size: '{"a":' * (size // 5),
    "backslashes": lambda size: "\\" * size,
    "percents": lambda size: "%2525" * (size // 5),
    "base64": lambda size: "cGFzc3dvcmQ9aHVudGVyMg " * (size // 23),
    "base64 in base64": lambda size: base64.b64encode(base64.b64encode(b"token=abcdef12 " * (size // 27))).decode(),
    "JSON in JSON": _nest,
    "manifests": lambda size: "kind: Secret\ndata:\n  a: b\n" * (size // 26),
    "keys": lambda size: json.dumps({f"password{number}": "x" for number in range(size // 20)}),
    "noise": lambda size: random.Random(7).randbytes(size // 2).hex(),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_no_input_costs_more_than_its_length(name: str) -> None:
    """Counted, not timed: the calls of Python and of C, and the bytes that are copied or looked through by each."""
    small, large = (_count_work(HOSTILE[name](size)) for size in (2_000, 16_000))
    assert large <= 8 * small * 1.25 + 20_000


class Counted(bytes):
    """A text that counts how much of it is copied and looked through."""

    looked = 0

    def __getitem__(self, index: Any) -> Any:
        got = super().__getitem__(index)
        self.looked += len(got) if isinstance(got, bytes) else 1
        return got

    def find(self, what: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(what, start, end)
        self.looked += (found if found >= 0 else len(self) if end is None else min(end, len(self))) - start
        return found

    def rfind(self, what: Any, start: Any = 0, end: Any = None) -> int:
        found = super().rfind(what, start, end)
        self.looked += (len(self) if end is None else end) - max(found, start)
        return found


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_no_value_is_looked_for_further_than_it_goes(name: str) -> None:
    small, large = (Counted(HOSTILE[name](size).encode()) for size in (10_000, 80_000))
    for text in (small, large):
        default_detector().find(text)
    assert large.looked <= 8 * small.looked * 1.25 + 100_000


def _count_work(text: str) -> int:
    redactor = Redactor()
    redactor.clean({"m": "password=warm"})
    work = 0

    def watch(frame: FrameType, event: str, _arg: object) -> None:
        nonlocal work
        if event == "call":
            given = (frame.f_locals.get(name) for name in frame.f_code.co_varnames[: frame.f_code.co_argcount])
            work += 8 + (
                sum(len(value) for value in given if isinstance(value, str | bytes))
                if frame.f_code.co_name in _WHOLE
                else 0
            )
        elif event == "c_call":
            work += 1

    sys.setprofile(watch)
    try:
        redactor.clean({"m": text})
    finally:
        sys.setprofile(None)
    return work


_WHOLE = frozenset(
    {"_secrets", "_is_quiet", "find", "names_secret", "shows_secret", "_json", "unescape", "open_base64", "open_gzip"}
    | {"is_reference", "disarm", "_hide_manifest", "kind_of_value", "looks_random"}
)
"""What looks through all that it is given."""
