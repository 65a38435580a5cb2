"""The notes of an audit log: which facts its records rest on, by digest, and which of them the file does not hold yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from ..policies.facts import Clean, Facts, describe_caller, describe_resource, describe_surroundings
from ..policies.model import Action, ActionGroup, Caller, Resource
from ..tools.record import Entry

_MOST_HELD = 1_000_000
"""How many digests are remembered as being in the file; past that it is told again what it holds."""

_MOST_CALLERS = 4_096
_MOST_RESOURCES = 65_536
"""How many objects are known by sight; past that all of them are described anew."""

_TIMELESS = frozenset(
    action for action in Action if action.group in (ActionGroup.DELEGATE, ActionGroup.READ, ActionGroup.READ_SENSITIVE)
)
"""What is decided the same at any moment."""


class Notes:
    """Facts by digest. The digest of an object that was met lately costs a look into a dictionary."""

    def __init__(self, clean: Clean) -> None:
        """`clean` redacts a text on its way into the facts."""
        self._clean = lru_cache(maxsize=16_384)(clean)
        # By `id()`: an entry holds on to its object, so that its `id()` stays its own.
        self._callers: dict[int, tuple[Caller, str]] = {}
        self._resources: dict[int, tuple[Resource, str]] = {}
        self._new: dict[str, Facts] = {}
        self._held: set[str] = set()

    def cite(self, entry: Entry) -> Mapping[str, object]:
        """The fields of the line that name the facts behind the entry. What can't be described is left out: a record is
        not to fail for want of its reasons."""
        cited: dict[str, object] = {}
        try:
            if (question := entry.question) is not None:
                # Inlined, and in lists: this is on the way of every call.
                caller, known = self._callers.get(id(question.caller)), self._resources
                cited["asker"] = caller[1] if caller else self._meet_caller(question.caller)
                if question.resources:
                    cited["places"] = tuple(
                        [
                            place[1] if (place := known.get(id(each))) else self._meet_resource(each)
                            for each in question.resources
                        ]
                    )
                if question.contexts and any(question.contexts):
                    cited["context"] = tuple([dict(each) for each in question.contexts])
                if question.action not in _TIMELESS:
                    cited["decided_at"] = question.at
            if entry.surroundings is not None:
                cited["settings"] = self._note(describe_surroundings(entry.surroundings))
        except (TypeError, ValueError):
            return {}
        return cited

    def missing(self, cited: Mapping[str, object], told: set[str]) -> list[Facts]:
        """The facts behind a line that neither the file holds nor `told` names, each after those that it names. They are
        added to `told`, which `settle` takes once they are in the file."""
        if not self._new:
            return []
        found: list[Facts] = []
        for digest in _digests(cited):
            self._find_missing(digest, told, found)
        return found

    def settle(self, told: Iterable[str]) -> None:
        """These are in the file now."""
        if len(self._held) > _MOST_HELD:
            self._held.clear()
        for digest in told:
            self._held.add(digest)
            self._new.pop(digest, None)

    def _find_missing(self, digest: str, told: set[str], found: list[Facts]) -> None:
        facts = self._new.get(digest)
        if facts is None or digest in told:
            return
        for above in facts.above:
            self._find_missing(above.digest, told, found)
        told.add(digest)
        found.append(facts)

    def _meet_caller(self, caller: Caller) -> str:
        if len(self._callers) >= _MOST_CALLERS:
            self._callers.clear()
        digest = self._note(describe_caller(caller, self._clean))
        self._callers[id(caller)] = caller, digest
        return digest

    def _meet_resource(self, resource: Resource) -> str:
        if len(self._resources) >= _MOST_RESOURCES:
            self._resources.clear()
        digest = self._note(describe_resource(resource, self._clean))
        self._resources[id(resource)] = resource, digest
        return digest

    def _note(self, facts: Facts) -> str:
        if facts.digest not in self._held:
            self._new[facts.digest] = facts
            for above in facts.above:
                self._note(above)
        return facts.digest


def _digests(cited: Mapping[str, object]) -> Iterable[str]:
    for value in cited.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from (each for each in value if isinstance(each, str))
