"""The corpus: what is planted goes, what only looks like it stays; both are counted and every miss is named."""

from __future__ import annotations

import json

import pytest

from arborgate.server.redaction import Redactor
from tests.redaction.corpus import alike, leaks, missed, planted, spoiled
from tests.redaction.planted import draw_secrets, encode, list_encodings

LEAST_RECALL = 0.99
MOST_FALSE = 0.01


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor()


def test_the_corpus_is_as_large_as_it_says() -> None:
    hidden, shown = list(planted()), list(alike())
    assert len(hidden) >= 330
    assert len({one.kind for one in hidden}) >= 45
    assert len({one.place for one in hidden}) >= 60
    assert len({json.dumps(one.value) for one in shown}) >= 330
    assert all(leaks(one, one.value) or one.secret not in json.dumps(one.value) for one in hidden)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_secrets_are_found(redactor: Redactor, seed: int) -> None:
    everything = list(planted(seed))
    left = missed(redactor, seed)
    recall = 1 - len(left) / len(everything)
    print(f"recall {recall:.4f}: {len(left)} of {len(everything)} planted secrets missed")  # noqa: T201
    assert recall >= LEAST_RECALL, "\n".join(one.name for one in left)


def test_look_alikes_survive_unchanged(redactor: Redactor) -> None:
    everything = list(alike())
    changed = spoiled(redactor)
    false = len(changed) / len(everything)
    print(f"false positives {false:.4f}: {len(changed)} of {len(everything)} look-alikes changed")  # noqa: T201
    told = "\n".join(f"{one.name}: {one.value} became {cleaned}" for one, cleaned in changed)
    assert false <= MOST_FALSE, told


@pytest.mark.parametrize("encoding", list_encodings())
def test_a_secret_known_by_its_form_is_found_in_every_encoding(redactor: Redactor, encoding: str) -> None:
    for kind, secret in draw_secrets(7):
        wrapped = encode(encoding, secret)
        for text in (wrapped, f"got {wrapped} back"):
            cleaned, count = redactor.clean({"message": text})
            shown = json.dumps(cleaned)
            assert count, kind
            assert secret[-24:] not in shown, kind
            assert wrapped[-24:] not in shown, kind
