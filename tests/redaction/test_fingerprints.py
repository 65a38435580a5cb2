"""Fingerprints tell that two secrets are the same, and tell a guesser nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from arborgate.policies.errors import BadConfiguration
from arborgate.server.fingerprints import Fingerprints
from arborgate.server.redaction import Redactor
from arborgate.server.state import State
from arborgate.tools.randomness import looks_random
from arborgate.tools.redis.connection import connect
from tests.parts.redis import RedisServer
from tests.redaction.planted import NAMED_KINDS, draw_secret, hash_password

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
GUESSABLE = sorted(
    ["hunter2", "Winter2026!Winter2026!", "correct-horse-battery-staple-2026", "Passw0rdPassw0rdPassw0rd", "a" * 64]
    + ["changeme-changeme-changeme", "12345678901234567890123456", "kubernetes-admin-password-1"]
    + [draw_secret(kind, 3) for kind in NAMED_KINDS if kind.startswith("pass") and kind != "password_random"]
)


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(fingerprints=Fingerprints(KEY))


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[State]:
    with RedisServer(tmp_path, name="redis-fingerprints") as server:
        async with connect(server.url()) as connection:
            yield State(connection, "{arborgate}:")


def prints(value: Any) -> list[str]:
    return re.findall(r"\[redacted:\w+:([0-9a-f]{8})\]", json.dumps(value))


@pytest.mark.parametrize("kind", ["github_token", "aws_secret_key", "password_random", "vault_token"])
async def test_the_same_secret_has_one_fingerprint_wherever_it_stands(redactor: Redactor, kind: str) -> None:
    secret = draw_secret(kind, 5)
    encoded = base64.b64encode(secret.encode()).decode()
    places: list[Any] = [
        {"password": secret},
        {"env": [{"name": "API_TOKEN", "value": secret}]},
        {"kind": "Secret", "data": {"x": encoded}},
        {"kind": "Secret", "stringData": {"x": secret}},
        {"text": f"DB_PASSWORD={secret}"},
        {"text": f'{{"clientSecret": "{secret}"}}'},
        {"text": json.dumps({"a": json.dumps({"token": secret})})},
    ]
    told = [prints(redactor.clean(place)[0]) for place in places]
    assert len({print_ for each in told for print_ in each}) == 1
    assert all(len(each) == 1 for each in told)


async def test_another_secret_and_another_key_have_another_fingerprint(redactor: Redactor) -> None:
    one, other = (draw_secret("github_token", seed) for seed in (1, 2))
    told = prints(redactor.clean([one, other])[0])
    assert len(set(told)) == 2
    assert prints(Redactor(fingerprints=Fingerprints(b"x" * 32)).clean([one])[0]) != told[:1]


@pytest.mark.parametrize("secret", GUESSABLE)
async def test_what_can_be_guessed_has_no_fingerprint(redactor: Redactor, secret: str) -> None:
    """An agent that has its guesses redacted could compare them otherwise."""
    assert not looks_random(secret)
    encoded = base64.b64encode(secret.encode()).decode()
    login = base64.b64encode(f"admin:{secret}".encode()).decode()
    for value in (
        {"password": secret},
        {"kind": "Secret", "data": {"x": encoded}},
        {"text": f"DB_PASSWORD='{secret}'"},
        {"text": f"Authorization: Basic {login}"},
        {"auths": {"r.example": {"auth": login}}},
        {"reply": f"user app on {hash_password(secret)} ~*"},
        {"text": "{SHA}" + base64.b64encode(hashlib.sha1(secret.encode()).digest()).decode()},
    ):
        cleaned, count = redactor.clean(value)
        assert count >= 1
        assert prints(cleaned) == []


@pytest.mark.parametrize("secret", ["hunter2", "Winter2026!"])
async def test_what_is_guessable_has_none_for_what_stands_around_it_or_is_made_of_it(
    redactor: Redactor, secret: str
) -> None:
    known = draw_secret("password_random", 9).translate(dict.fromkeys(b"-_+/=", "x"))
    assert looks_random(known)
    digests = [getattr(hashlib, name)(secret.encode()) for name in ("md5", "sha1", "sha256", "sha512")]
    values: list[dict[str, Any]] = [
        {"connectionString": f"Server={known};Uid={known};Password={secret}"},
        {"dsn": f"{known}:{secret}@tcp({known}:3306)/{known}"},
        {"cookie": f"user={known};pin={secret}"},
        {"credentials": f"{known},{secret}"},
        {"kind": "Secret", "stringData": {"x": f'{{"user":"{known}","pin":"{secret}"}}'}},
        *({"password": each.hexdigest()} for each in digests),
        *({"passwordHash": base64.b64encode(each.digest()).decode()} for each in digests),
    ]
    for value in values:
        cleaned, count = redactor.clean(value)
        assert count
        assert prints(cleaned) == [], value


async def test_texts_show_no_fingerprint(redactor: Redactor) -> None:
    """Errors, records, logs and pages repeat what callers wrote."""
    assert redactor.clean_text(f"no app {draw_secret('github_token', 1)}") == "no app [redacted:github_token]"


async def test_without_a_key_there_is_no_fingerprint() -> None:
    assert Redactor().clean([draw_secret("npm_token", 1)]) == (["[redacted:npm_token]"], 1)


async def test_replicas_share_the_key(state: State) -> None:
    one, other = [await Fingerprints.shared(state) for _ in range(2)]
    secret = draw_secret("github_token", 1)
    assert one is not None
    assert other is not None
    assert one.of(secret) == other.of(secret) != ""


async def test_while_the_state_is_away_there_is_no_fingerprint(tmp_path: Path) -> None:
    """One of a replica's own would say of the same secret that it is another."""
    with RedisServer(tmp_path, name="redis-gone") as server:
        url = server.url()
    async with connect(url, timeout=0.5) as connection:
        assert await Fingerprints.shared(State(connection, "{arborgate}:")) is None


async def test_the_key_can_come_from_a_file(state: State, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY + b"\n")
    own = await Fingerprints.shared(state, file)
    assert own is not None
    assert own.of(draw_secret("npm_token", 1)) == Fingerprints(KEY).of(draw_secret("npm_token", 1))


@pytest.mark.parametrize("content", [b"short", None])
async def test_a_key_file_that_is_no_key_refuses_to_start(state: State, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadConfiguration, match="fingerprint_key_file"):
        await Fingerprints.shared(state, file)
