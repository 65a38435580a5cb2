"""What an approver reads: the touched fields alone, nothing hidden in them, and no secret."""

from typing import Any

import pytest

from arborgate.tools.diff import WITHHELD, diff_objects, find_secret, list_fields, overlap, redact

BEFORE = {"metadata": {"name": "api"}, "spec": {"replicas": 2, "paused": False}}


def test_a_diff_shows_the_touched_fields_alone() -> None:
    after = {"metadata": {"name": "other"}, "spec": {"replicas": 3, "paused": True}}
    assert diff_objects(BEFORE, after, ["/spec/replicas"], name="Deployment shop/api").splitlines() == [
        "--- Deployment shop/api (live)",
        "+++ Deployment shop/api (planned)",
        "@@ -1,2 +1,2 @@",
        " spec:",
        "-  replicas: 2",
        "+  replicas: 3",
    ]


def test_a_field_that_appears_or_goes_is_shown_from_nothing_or_to_nothing() -> None:
    assert "+  replicas: 2" in diff_objects({}, BEFORE, ["/spec/replicas"], name="x").splitlines()
    assert "-  replicas: 2" in diff_objects(BEFORE, {}, ["/spec/replicas"], name="x").splitlines()
    assert diff_objects({}, {}, ["/spec/replicas"], name="x") == ""


def test_a_key_with_a_slash_is_one_key() -> None:
    patch = {"metadata": {"annotations": {"a.example/b~c": "1"}}}
    (field,) = list_fields(patch)
    assert field == "/metadata/annotations/a.example~1b~0c"
    assert "+    a.example/b~c: '1'" in diff_objects({}, patch, [field], name="x").splitlines()


def test_a_block_of_text_differs_line_by_line() -> None:
    diff = diff_objects({"values": "a: 1\nb: 2\n"}, {"values": "a: 1\nb: 3\n"}, ["/values"], name="x")
    assert {"-  b: 2", "+  b: 3"} <= set(diff.splitlines())


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\x1b", "\u2028", "\x07"])
def test_nothing_invisible_is_in_a_diff(hidden: str) -> None:
    diff = diff_objects(
        {},
        {"image": f"api{hidden}:1", hidden: "x", "block": f"a\n{hidden}b"},
        ["/image", "/block", f"/{hidden}"],
        name="x",
    )
    assert hidden not in diff
    assert diff


def test_a_patch_writes_its_leaves() -> None:
    assert list_fields({"a": {"b": 1, "c": None}, "d": [1], "e": {}}) == ("/a/b", "/a/c", "/d", "/e")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("/a/b", "/a", True), ("/a", "/a/b", True), ("/a", "/a", True), ("/ab", "/a", False), ("/a/b", "/a/c", False)],
)
def test_fields_overlap_when_one_holds_the_other(one: str, other: str, same: bool) -> None:
    assert overlap(one, other) is same


SECRETS: tuple[Any, ...] = (
    {"password": "planted"},
    {"db": {"PASSWD": "planted"}},
    {"clientSecret": "planted"},
    {"api-key": "planted"},
    {"api_key": "planted"},
    {"tokens": ["planted"]},
    {"parameters": [{"name": "redis.auth.password", "value": "planted"}]},
    {"env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "planted"}]},
    {"values": "image: x\nauth:\n  password: planted\n"},
    {"values": "A=1\nAPI_TOKEN=planted\n"},
    {"note": "eyJhbGciOiJub25l.eyJzdWIiOiJub2JvZHki.planted"},
    {"note": "ghp_" + "planted0" * 5},
    {"note": "AKIA" + "PLANTED0PLANTED0"},
    {"repoURL": "https://user:planted@git.example.org/x.git"},
    {"note": "-----BEGIN RSA PRIVATE KEY-----\nplanted\n-----END RSA PRIVATE KEY-----"},
    {"revision": "ghp_\u200b" + "planted0" * 5},
    {"pass\u200bword": "planted"},
)


@pytest.mark.parametrize("value", SECRETS, ids=range(len(SECRETS)))
def test_a_planted_secret_is_found_and_never_shown(value: Any) -> None:
    assert find_secret(value)
    assert "planted" not in str(redact(value)[0]).lower()
    diff = diff_objects({}, value, [f"/{key}" for key in value], name="x")
    assert "planted" not in diff.lower()
    assert WITHHELD in diff


@pytest.mark.parametrize(
    "value",
    [
        {"secretName": "db"},
        {"existingSecret": "db"},
        {"secretKeyRef": {"name": "db", "key": "url"}},
        {"imagePullSecrets": ["registry"]},
        {"imagePullSecrets": [{"name": "registry"}]},
        {"tokenUrl": "https://id.example.org/token"},
        {"password": ""},
        {"password": "$DB_PASSWORD"},
        {"password": "${DB_PASSWORD}"},
        {"password": "<path:secret/data/db#password>"},
        {"automountServiceAccountToken": "false"},
        {"replicas": "3"},
        {"image": "registry.example.org:5000/shop/api@sha256:" + "ab" * 32},
        {"revision": "3f2c1ab0d4e5f60718293a4b5c6d7e8f90a1b2c3"},
    ],
    ids=str,
)
def test_a_reference_to_a_secret_is_none(value: Any) -> None:
    assert find_secret(value) is None
    assert redact(value)[0] == value


def test_where_a_secret_is_is_told_as_a_pointer() -> None:
    assert find_secret({"a": {"b/c": [{"name": "x"}, {"password": "planted"}]}}) == "/a/b~1c/1/password"
