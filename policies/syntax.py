"""What is wrong in text that Cedar's parser refuses: the token it stumbled over, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import cedarpy
from cedarpy import pst

from .tokens import CLOSING, Kind, Text, Token, find_clauses, find_tokens, find_unclosed

_QUOTED = re.compile(r"`([^`]+)`")
_LAST_WORD = re.compile(r": (\w+)$")
_AT_THE_END = "unexpected end of input"

_TYPOGRAPHIC = "“”„‟‘’‚′″«»"

_MEANT = {
    "!==": "!=",
    "&": "&&",
    "<>": "!=",
    "=": "==",
    "===": "==",
    "False": "false",
    "True": "true",
    "allow": "permit",
    "and": "&&",
    "deny": "forbid",
    "grant": "permit",
    "if": "when",
    "not": "!",
    "or": "||",
    "where": "when",
    "|": "||",
}
"""What people write who know other languages, and how Cedar says it."""

_WORDS = (
    "action",
    "contains",
    "containsAll",
    "containsAny",
    "context",
    "false",
    "forbid",
    "isEmpty",
    "permit",
    "principal",
    "resource",
    "true",
    "unless",
    "when",
)


@dataclass(frozen=True, slots=True)
class Stumble:
    """What is wrong, and the tokens it is about."""

    problem: str
    tokens: Sequence[Token]


def parse(source: str) -> pst.PolicySet:
    """The text as nodes; raises `ValueError` for everything that is not Cedar."""
    return cedarpy.policies_to_pst(source)


def find_stumble(text: Text, tokens: Sequence[Token], message: str) -> Stumble:
    """What is wrong in the tokens of one statement, which the parser refused with that message."""
    if (stumble := _wrong_character(tokens)) is not None:
        return stumble
    if message == _AT_THE_END:
        return _unfinished(tokens)
    if message.startswith("unexpected token"):
        return _unexpected(text, tokens, message)
    found, hint = _find_subject(text, tokens, message)
    return Stumble(f"not a Cedar policy: {message}{hint}", found)


def _find_subject(text: Text, tokens: Sequence[Token], message: str) -> tuple[Sequence[Token], str]:
    """What a message is about that the parser gave after it had read the whole statement."""
    if message.startswith("duplicate annotation"):
        name = message.rpartition("@")[2]
        return find_tokens(tokens[len(find_tokens(tokens, f"@{name}")) :], f"@{name}"), ""
    if message.startswith("integer"):
        return [max((each for each in tokens if each.kind is Kind.NUMBER), key=lambda each: len(each.text))], ""
    if "found set of entity uids" in message:
        return find_tokens(tokens, "["), "; a set goes into a condition: when { principal in […] }"
    for needle in _needles(message):
        if found := find_tokens(tokens, needle):
            return found, _guess(needle)
    escape = message.partition("`")[2][:2]
    alike = (each for each in tokens if each.kind is Kind.STRING and escape[:1] == "\\" and escape in each.text)
    clauses = find_clauses(tokens)
    same = (
        each for each in clauses if _refusal(f"permit (principal, action, resource) {text.source(each)};") == message
    )
    return next(((each,) for each in alike), None) or next(same, tokens[:1]), ""


def _needles(message: str) -> Sequence[str]:
    if message.startswith("'='"):
        return ("=",)
    last = _LAST_WORD.search(message)
    return [*_QUOTED.findall(message), *([last[1]] if last else [])]


def _wrong_character(tokens: Sequence[Token]) -> Stumble | None:
    token = next((each for each in tokens if each.kind is Kind.WRONG), None)
    if token is None:
        return None
    match token.text:
        case '"':  # a quote that is missing further up turns all later strings inside out
            token = next((each for each in tokens if each.kind is Kind.STRING and "\n" in each.text), token)
            problem = "the string that begins here has no closing quote"
        case "'":
            problem = "a string stands between double quotes: \"…\", not '…'"
        case "#":
            problem = "a comment begins with //, not with #"
        case character if character in _TYPOGRAPHIC:
            problem = f'{character} is a typographic quote; a string stands between plain ones: "…"'
        case character:
            problem = f"not a Cedar policy: invalid token `{character}`{_guess(character)}"
    return Stumble(problem, (token,))


def _unfinished(tokens: Sequence[Token]) -> Stumble:
    if (bracket := find_unclosed(tokens)) is not None:
        return Stumble(f"the `{bracket.text}` that opens here is not closed", (bracket,))
    if tokens[-1].text in (")", "}"):
        return Stumble("the policy ends here without a semicolon", tokens[-1:])
    return Stumble(f"not a Cedar policy: {_AT_THE_END}", tokens[-1:])


def _unexpected(text: Text, tokens: Sequence[Token], message: str) -> Stumble:
    """The token is the last of the shortest beginning that is refused for more than its end."""
    low, high = 1, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if _refusal(text.source(tokens[:middle])) in ("", _AT_THE_END):
            low = middle + 1
        else:
            high = middle
    # Where the end is to blame as well, Cedar tells of the end alone: the token is then one further up.
    named = message.removeprefix("unexpected token `").removesuffix("`")
    index = next((index for index in range(low - 1, -1, -1) if tokens[index].text == named), low - 1)
    token, before = tokens[index], tokens[:index]
    bracket = find_unclosed(before)
    ends = token.text in ("@", ";", "permit", "forbid")
    if bracket and (ends or token.text in {*CLOSING.values()} - {CLOSING[bracket.text]}):
        return Stumble(f"the `{bracket.text}` that opens here is not closed", (bracket,))
    if ends and any(each.text in ("permit", "forbid") for each in before):
        return Stumble("the policy ends here without a semicolon", before[-1:])
    return Stumble(f"not a Cedar policy: {message}{_meant_at(token, before)}", (token,))


def _meant_at(token: Token, before: Sequence[Token]) -> str:
    last = before[-1].text if before else ""
    if token.text == ":":
        return "; did you mean `::`?"
    if last in ("principal", "action") and token.kind is Kind.WORD:
        return "; is there a comma missing before it?"
    for written in (last + token.text, token.text, last):
        if meant := _MEANT.get(written):
            return f"; did you mean `{meant}`?"
    return ""


def _refusal(source: str) -> str:
    try:
        parse(source)
    except ValueError as error:
        return str(error)
    return ""


def _guess(word: str) -> str:
    meant = _MEANT.get(word)
    if meant is None and word.isidentifier() and word not in _WORDS:
        meant = next(iter(difflib.get_close_matches(word, _WORDS, n=1)), None)
    return f"; did you mean `{meant}`?" if meant else ""
