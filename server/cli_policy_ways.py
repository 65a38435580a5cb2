"""A way to be allowed, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..policies.residue import Way, Ways

_WIDEST = 60


def tell_way(way: Way, notes: Iterable[str] = ()) -> Iterator[str]:
    """What it takes, one condition a line, each with the policy that permits then, or forbids otherwise; the notes
    stand below the first."""
    lines = [("true" if way.needs == "true" else way.needs, f"{way.policy} permits  {way.location}")]
    lines += [(f"&& {_bracket(each.needs)}", f"else {each.policy} forbids  {each.location}") for each in way.hurdles]
    width = min(max(len(text) for text, _ in lines), _WIDEST)
    for number, (text, by) in enumerate(lines):
        yield f"{text:<{width}}  {by}"
        if number == 0:
            yield from (f"  {note}" for note in notes)


def tell_blocked(ways: Ways) -> Iterator[str]:
    """What would permit it, but for what forbids it."""
    for each in ways.blocked:
        yield f"{each.policy or 'whatever permits it'}: always forbidden by {', '.join(each.by)}"


def as_json(way: Way) -> dict[str, object]:
    """A way, with everything it takes."""
    return {
        "policy": way.policy,
        "at": str(way.location),
        "needs": way.needs,
        "hurdles": [
            {"policy": hurdle.policy, "at": str(hurdle.location), "needs": hurdle.needs} for hurdle in way.hurdles
        ],
        "condition": way.condition,
        "roles": list(way.roles),
        "groups": list(way.groups),
    }


def _bracket(condition: str) -> str:
    return f"({condition})" if " || " in condition else condition
