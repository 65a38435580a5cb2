"""Cuts: what is left of a text holds no part of a secret that the cut fell into."""

import base64

import pytest

from arborgate.tools.cuts import shorten, take_part
from arborgate.tools.secrets import redact

WORDS = "The container failed to start: "
SECRETS = ("postgres://app:planted-pass@db/orders", 'password: "planted pass of several words"', "ghp_" + "Zq3" * 12)


def test_a_short_text_stays_as_it_is() -> None:
    assert shorten(WORDS, len(WORDS)) == WORDS


def test_a_long_text_ends_with_a_whole_word() -> None:
    assert shorten("one two three", 9) == "one two …"
    assert shorten("one two three", 8) == "one two…"
    assert shorten("one two three", 7) == "one …"
    assert shorten("one,two,three", 10) == "one,two,…"
    assert shorten("onetwothree", 9) == "…"


@pytest.mark.parametrize("secret", SECRETS)
def test_no_cut_leaves_part_of_a_secret(secret: str) -> None:
    text = f"{WORDS}{secret} in orders"
    for length in range(len(WORDS) + 1, len(WORDS) + len(secret)):
        kept = shorten(text, length)
        assert len(kept) <= length
        assert "planted" not in kept
        assert "Zq3" not in kept


@pytest.mark.parametrize("secret", SECRETS)
def test_no_part_of_a_text_begins_or_ends_within_a_secret(secret: str) -> None:
    data = f"{WORDS}{secret} in orders".encode()
    for at in range(len(WORDS) + 1, len(WORDS) + len(secret)):
        before, after = take_part(data, 0, at), take_part(data, at, len(data))
        assert before.startswith(WORDS.encode())
        assert after.endswith(b" in orders")
        assert b"planted" not in after
        assert b"Zq3" not in after
        assert b"planted" not in redact(before.decode())[0].encode()


def test_part_by_part_all_of_a_text_is_taken_once() -> None:
    for text in ("größer — 数据库 ✓, and (much) more; " * 20, "abc" * 1_000, "one two"):
        data = text.encode()
        for size in (7, 40, 600):
            parts = [take_part(data, at, at + size) for at in range(0, len(data), size)]
            assert b"".join(parts) == data


def test_base64_of_a_text_is_not_cut_in_two() -> None:
    wrapped = base64.b64encode(b"# settings\npassword: planted\n" + b"# and so on\n" * 100)
    data = b"config: " + wrapped + b" end"
    assert take_part(data, 100, 400) == b""
    assert take_part(data, 0, 400) == b"config: " + wrapped
    assert shorten(data.decode(), 400) == "config: …"


def test_a_long_word_is_cut_unless_something_in_it_is_hidden() -> None:
    word = "." * 600 + "ghp_Zq3Zq3\u200b" + "Zq3" * 10 + "." * 600
    assert take_part(word.encode(), 603, 1_200) == b""
    assert shorten(word, 620) == "." * 600 + "…"
    assert shorten(word.replace("\u200b", " "), 600) == "." * 599 + "…"
    driven = WORDS + "ghp_" + "Zq3" * 11 + "\x1b[1;31m" + "Zq3"
    assert shorten(driven, len(driven) - 4) == driven.replace("\x1b[1;31m", "")
    assert shorten(driven, len(driven) - 9) == WORDS + "…"
    assert take_part(driven.encode(), len(driven) - 3, len(driven)) == b""


def test_cutting_is_linear_in_hostile_text() -> None:
    for text in ("a" * 1_000_000, "password=" * 100_000, "( " * 500_000):
        assert len(shorten(text, 2_000)) <= 2_000
