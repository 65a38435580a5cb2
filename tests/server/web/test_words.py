"""Words on a page: nothing in them is hidden, and no secret is in them, also none that something hidden splits."""

from arborgate.server.redaction import Redactor
from arborgate.server.web.words import read_diff, reveal_clean

TOKEN = "ghp_" + "Zq3" * 12
SPLIT = TOKEN[:9] + "\u200b" + TOKEN[9:]


def test_a_secret_that_something_hidden_splits_is_taken_out_and_what_was_hidden_is_told() -> None:
    clean = Redactor().clean_text
    shown = reveal_clean(f"at {SPLIT} now", clean)
    assert "Zq3" not in shown
    assert shown.startswith("at [redacted:")
    assert shown.endswith(" now⟨U+200B⟩")
    (line,) = read_diff(f"@@\n+{SPLIT}", clean)[1:]
    assert "Zq3" not in line.text
    assert "⟨U+200B⟩" in line.text


def test_what_is_hidden_is_shown_where_it_is_beside_no_secret() -> None:
    assert reveal_clean("image:v1\u200b", Redactor().clean_text) == "image:v1⟨U+200B⟩"
    assert reveal_clean("image:v1", Redactor().clean_text) == "image:v1"
