"""What clusters hold, as somebody wrote it down who had not seen the corpus: the same bars as for the corpus."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
import re2

from arborgate.server.redaction import Redactor
from arborgate.server.wrappings import MOST_UNPACKED
from arborgate.tools.secret_places import PLACES
from arborgate.tools.secret_shapes import SHAPES
from tests.redaction.clusters import planted
from tests.redaction.corpus import leaks
from tests.redaction.corpus import planted as planted_elsewhere
from tests.redaction.harmless import alike
from tests.redaction.test_corpus import LEAST_RECALL, MOST_FALSE


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor()


def test_every_planted_secret_is_there_to_be_found() -> None:
    hidden, shown = list(planted()), list(alike())
    assert len(hidden) >= 200
    assert len({one.place for one in hidden}) == len(hidden)
    assert len(shown) >= 170
    assert all(leaks(one, one.value) or one.secret not in json.dumps(one.value) for one in hidden)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_secrets_of_clusters_are_found(redactor: Redactor, seed: int) -> None:
    hidden = list(planted(seed))
    left = [one.name for one in hidden if leaks(one, redactor.clean(one.value)[0])]
    assert 1 - len(left) / len(hidden) >= LEAST_RECALL, left


def test_harmless_texts_of_clusters_survive_unchanged(redactor: Redactor) -> None:
    shown = [(one, *redactor.clean(one.value)) for one in alike()]
    changed = [f"{one.name}: {cleaned}" for one, cleaned, count in shown if count or cleaned != one.value]
    assert len(changed) / len(shown) <= MOST_FALSE, changed


def test_a_hint_is_seen_wherever_its_pattern_is() -> None:
    texts = [json.dumps(one.value).encode() for one in (*planted(), *planted_elsewhere())]
    texts += [text.replace(b"\\n", b"\n").replace(b'\\"', b'"') for text in texts]
    for shape in (*SHAPES, *PLACES):
        hint, pattern = re2.compile(shape.hint), re2.compile(shape.pattern)
        unseen = [text for text in texts if pattern.search(text) is not None and hint.search(text) is None]
        assert not unseen, (shape.kind, shape.pattern, unseen[:1])


@pytest.mark.parametrize(
    "value",
    [
        {"type": "Opaque", "data": {"any": "w0rd"}},
        {"type": "kubernetes.io/basic-auth", "stringData": {"any": "w0rd"}},
        {"kty": "EC", "crv": "P-256", "x": "shown", "d": "w0rd"},
        {"command": ["redis-cli", "-a", "w0rd", "ping"]},
        {"command": ["curl", "-s", "-u", "ada:w0rd", "https://db.test"]},
        {"reply": ["flags", ["on"], "passwords", ["w0rd"]]},
        {"reply": ["user", "ada", "password", "w0rd"]},
        {"name": "DB_PASSWORD", "value": "other-w0rd", "default": "w0rd"},
        {"k": "DB_PASSWORD", "v": "w0rd"},
        {"pw=w0rd": "x"},
        {"\uff50assword": "w0rd"},
        {"password": "[redacted:w0rd is it]"},
        {"message": "password=[redacted:]w0rd"},
        {"message": '{"kind":"Secret","stringData":{"any":"w0rd","more":"cut o'},
        {"message": "{kind: Secret, stringData: {any: w0rd}}"},
        {"message": "password\u00a0=\u00a0w0rd-1"},
        {"message": "password\uff1aw0rd-1"},
        {"message": "| user | password |\n|---|---|\n| ada | w0rd |\n"},
        {"message": base64.b64encode("größe=ü\npassword=w0rd".encode()).decode()},
    ],
)
def test_the_structure_around_a_value_tells(redactor: Redactor, value: object) -> None:
    cleaned, count = redactor.clean(value)
    assert count
    assert "w0rd" not in json.dumps(cleaned)
    assert "Cnbhc3N3b3Jk" not in json.dumps(cleaned)


def test_compressed_texts_of_one_answer_share_their_room(redactor: Redactor) -> None:
    packed = base64.b64encode(gzip.compress(b"key=[plain] " * (MOST_UNPACKED // 24))).decode()
    once, _ = redactor.clean({"message": packed})
    often, count = redactor.clean({"message": "; ".join([packed] * 6)})
    assert once == {"message": packed}
    assert often["message"].count("[redacted:compressed]") == count >= 3
    again, _ = redactor.clean({"message": packed})
    assert again == once


def test_what_stands_in_a_row_is_opened_one_by_one(redactor: Redactor) -> None:
    plain = base64.b64encode(b"nothing but words of the world, and some more of them").decode().rstrip("=")
    held = base64.b64encode(b"password=w0rd and some more words of the world, as before").decode().rstrip("=")
    packed = [
        base64.b64encode(gzip.compress(text)).decode().rstrip("=") for text in (b"words" * 99, b"password=w0rd" * 9)
    ]
    for text in (f"{plain} {held}", f"{plain}\n{held}", " ".join(packed)):
        cleaned, count = redactor.clean({"message": text})
        assert count
        assert held not in cleaned["message"]
        assert packed[1] not in cleaned["message"]
    members = base64.b64encode(gzip.compress(b"words") + gzip.compress(b"password=w0rd")).decode()
    assert redactor.clean({"message": members}) == ({"message": "[redacted:compressed]"}, 1)
