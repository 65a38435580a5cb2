"""Redaction: secrets go by structure, name and shape; look-alikes stay; harmful characters never leave."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arborgate.server.redaction import Redactor
from arborgate.tools.secrets import is_secret_name, redact
from arborgate.tools.text import neutralise

BODY = "Zq3" * 14
"""Long enough for every shape, and plainly no real secret."""

SHAPED = {
    "jwt": f"ey{'J'}hbGciOiJub25l.{BODY}.{BODY}",
    "aws_key_id": "AKIA" + "PLANTEDPLANTEDXX",
    "github_token": "ghp_" + BODY,
    "gitlab_token": "glpat-" + BODY,
    "slack_token": "xoxb-" + BODY,
    "stripe_key": "sk_live_" + BODY,
    "google_key": "AIza" + BODY,
    "npm_token": "npm_" + BODY,
    "vault_token": "hvs." + BODY,
    "password_hash": "$2b$12$" + BODY,
    "url_password": "postgres://app:planted-pass@db/main",
    "authorization": "Bearer " + BODY,
    "password": "DB_PASSWORD=planted-pass",
    "private_key": "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----",
}

TEXTS = [
    '{"password": "planted planted"}',
    r"{\"password\": \"planted\"}",
    '{"kind":"Secret","data":{"x":"planted"}}',
    '[{"kind":"List","items":[{"kind":"Secret","stringData":{"x":"planted"}}]}]',
    '{"env":[{"name":"API_KEY","value":"planted"}]}',
    json.dumps({"annotation": json.dumps({"kind": "Secret", "data": {"x": "planted"}})}),
    "password: |\n  planted-pass",
    "password: 'planted pass'",
    "private_key: planted-key",
    "DB_PASS=planted",
    "https://api.example.com/hook?token=planted",
    "postgres://app:pl@planted@db/main",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nplanted\n-----END PGP PRIVATE KEY BLOCK-----",
    "pass\u200bword=planted-pass",
]
"""Secrets as they stand in configuration, logs and stored documents."""

SURVIVE = [
    "the password was rotated yesterday",
    "secretName",
    "sha256:" + "ab12" * 16,
    "ghcr.io/acme/payments:v1.42.0",
    "https://git.example.com/acme/payments.git",
    "9f2c1e7a" * 5,
    "basic auth is on",
    "token bucket of 20",
    "task-force",
    "in-cluster/argocd/payments-worker",
    "2026-11-20T10:00:00Z",
]


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor()


@pytest.mark.parametrize("kind", sorted(SHAPED))
def test_a_secret_of_a_known_shape_is_removed_wherever_it_stands(redactor: Redactor, kind: str) -> None:
    for text in (SHAPED[kind], f"before {SHAPED[kind]} after"):
        cleaned, count = redactor.clean({"rows": [{"message": text}]})
        assert SHAPED[kind] not in json.dumps(cleaned)
        assert BODY not in json.dumps(cleaned)
        assert "planted" not in json.dumps(cleaned)
        assert f"[redacted:{kind}]" in cleaned["rows"][0]["message"]
        assert count == 1


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_of_some_format_is_removed(redactor: Redactor, text: str) -> None:
    for value in ({"message": text}, {"rows": [text]}):
        cleaned, count = redactor.clean(value)
        assert "planted" not in json.dumps(cleaned)
        assert count >= 1
    if "\u200b" not in text:
        assert "planted" not in redactor.clean_text(text)


@pytest.mark.parametrize("text", ['{"a":  1, "b": [true]}', "[see the log]", "{", '{"a": 1e400}'])
def test_json_that_holds_no_secret_stays_as_it_was_written(redactor: Redactor, text: str) -> None:
    assert redactor.clean({"message": text}) == ({"message": text}, 0)


def test_half_a_character_is_removed_and_hides_nothing(redactor: Redactor) -> None:
    cleaned, count = redactor.clean({"a\ud800": ["x\udfffy", "pass\ud800word=planted"]})
    assert (cleaned, count) == ({"a": ["xy", "password=[redacted:password]"]}, 1)


@given(
    st.recursive(
        st.sampled_from(
            ["password", "dbToken", "name", "value", "Secret", "kind", "data", "API_KEY", "planted", "a\\b", "é"]
        )
        | st.text(max_size=8)
        | st.integers(0, 9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["password", "authToken", "name", "value", "kind", "data", "connection_string", "plain"]
                )
                | st.text(max_size=8),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_the_quick_look_never_misses_what_a_walk_finds(value: Any) -> None:
    redactor = Redactor()
    assert redactor.clean({"value": value}) == redactor._walk({"value": value}, None)


@pytest.mark.parametrize("text", SURVIVE)
def test_a_look_alike_survives(redactor: Redactor, text: str) -> None:
    assert redactor.clean({"message": text}) == ({"message": text}, 0)


@pytest.mark.parametrize(
    "value",
    [
        {"dbPassword": "planted"},
        {"db": {"credentials": {"user": "planted"}}},
        {"kind": "Secret", "data": {"a": "planted"}},
        {"kind": "Secret", "stringData": {"a": "planted"}},
        {"env": [{"name": "API_KEY", "value": "planted"}]},
        {"parameters": [{"name": "auth.token", "value": "planted"}]},
        {"API-KEY": 12345678},
        {"Authorization": ["planted"]},
        {"nested": json.dumps({"password": "planted"})},
        {"pass\u200bword": "planted"},
        {"env": [{"name": "API_\u200bKEY", "value": "planted"}]},
    ],
)
def test_a_secret_is_removed_by_its_structure_or_name(redactor: Redactor, value: Any) -> None:
    cleaned, count = redactor.clean(value)
    text = json.dumps(cleaned)
    assert "planted" not in text
    assert "12345678" not in text
    assert count >= 1


@pytest.mark.parametrize(
    "name", ["secretName", "tokenEndpoint", "passwordPolicy", "secretRef", "max_tokens", "keyspace", "token_url"]
)
def test_a_name_about_a_secret_is_no_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["password", "DB_PASS", "clientSecret", "api-key", "x.api_key", "requirepass", "token"]
)
def test_a_name_of_a_secret_is_one(name: str) -> None:
    assert is_secret_name(name)


def test_the_value_given_is_not_changed(redactor: Redactor) -> None:
    value = {"password": "planted", "rows": [{"token": "planted"}]}
    redactor.clean(value)
    assert value == {"password": "planted", "rows": [{"token": "planted"}]}


@pytest.mark.parametrize(
    "harm",
    [
        "\x1b[31m",
        "\x1b]0;title\x07",
        "\u202e",
        "\u2066",
        "\u200b",
        "\ufeff",
        "\U000e0041",
        "\x00",
        "\x08",
        "\x9b1m",
        "\u00ad",
    ],
)
def test_harmful_characters_are_removed_from_values_and_keys(redactor: Redactor, harm: str) -> None:
    cleaned, _ = redactor.clean({f"a{harm}b": [f"x{harm}y"]})
    assert cleaned == {"ab": ["xy"]}


def test_text_in_other_scripts_is_kept(redactor: Redactor) -> None:
    assert redactor.clean({"note": "größer — 数据库 ✓"})[0] == {"note": "größer — 数据库 ✓"}


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    assert neutralise("x" * 30, 10) == "x" * 10 + " … (20 more characters)"


@given(
    st.recursive(
        st.text() | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    ),
    st.sampled_from(sorted(SHAPED)),
    st.text(alphabet=" \n\t,;()<>", max_size=3),
)
def test_a_planted_secret_never_appears_in_what_leaves(value: Any, kind: str, edge: str) -> None:
    cleaned, _ = Redactor().clean({"value": value, "deep": [{"text": f"{edge}{SHAPED[kind]}{edge}"}]})
    assert SHAPED[kind] not in json.dumps(cleaned, ensure_ascii=False)


def test_cleaning_is_linear_in_hostile_text() -> None:
    for text in ("a" * 100_000, "http://" * 15_000, "password" * 12_000, base64.b64encode(b"x" * 75_000).decode()):
        assert len(redact(text)[0]) <= len(text) + 20
