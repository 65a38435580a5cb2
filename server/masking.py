"""Masking: personal data goes from what callers read who may not see it (`personal:read`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson
import re2
from pydantic import Field
from pydantic.networks import IPvAnyNetwork

from ..policies.model import Caller
from ..tools.fields import Fields, join_path
from ..tools.personal import SUSPICIOUS, Finding, Kind, find_personal
from .section import Section

Json = dict[str, Any]

_SUSPICIOUS = re2.compile("|".join(SUSPICIOUS))


class PersonalSettings(Section):
    """What personal data is. See docs/answers.md."""

    own_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="networks of machines, as 10.42.0.0/16: their addresses are nobody's and stay"
    )


class Masker:
    """Hides mail addresses, names in paths and IP addresses. A mask says what it hides and counts: within one answer the
    same person or address has the same number (`[mail:2]`), and in the next answer another.

    A number and no fingerprint, since addresses can be guessed: whoever may write a text that comes back to them could
    otherwise try addresses until a fingerprint fits. An answer in which one linear scan finds nothing passes as it is."""

    def __init__(self, settings: PersonalSettings | None = None) -> None:
        self._networks = (settings or PersonalSettings()).own_networks

    def suspects(self, data: Json) -> bool:
        """Whether there may be personal data in the answer: one linear scan of its JSON."""
        return _SUSPICIOUS.search(orjson.dumps(data)) is not None

    def mask(self, data: Json, fields: Fields, own: Collection[str]) -> Json:
        """The answer without personal data, but for fields of who somebody is, and for what is the caller's own; the very
        same object when there is none. The one given is not changed."""
        walk = _Walk(self._networks, fields, frozenset(map(str.lower, own)))
        masked: Json = walk.go(data, "")
        return masked if walk.numbers else data

    def mask_text(self, text: str, own: Collection[str]) -> str:
        """One text without personal data that is not the caller's own."""
        return self.begin(own)(text)

    def begin(self, own: Collection[str]) -> Callable[[str], str]:
        """What masks the texts of one answer one by one, as `mask_text`: its numbers go on from each to the next."""
        return _Walk(self._networks, _NO_FIELDS, frozenset(map(str.lower, own))).hide


def own_words(caller: Caller) -> tuple[str, ...]:
    """What callers are called themselves, which is never masked for them."""
    return (caller.subject, caller.name)


_NO_FIELDS = Fields(frozenset(), frozenset(), frozenset(), frozenset())


class _Walk:
    """One answer on its way: `numbers` of what was hidden so far."""

    def __init__(self, networks: Collection[Any], fields: Fields, own: frozenset[str]) -> None:
        self.numbers: dict[Kind, dict[str, int]] = {}
        self._networks = networks
        self._fields = fields
        self._own = own

    def go(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            return value if path in self._fields.identities or path in _OURS else self.hide(value)
        if isinstance(value, list):
            return [self.go(inner, path) for inner in value]
        if isinstance(value, Mapping):
            in_map = path in self._fields.maps
            return {
                self.hide(name) if in_map else name: self.go(inner, path if in_map else join_path(path, name))
                for name, inner in value.items()
            }
        return value

    def hide(self, text: str) -> str:
        if _SUSPICIOUS.search(text) is None:
            return text
        parts, at = [], 0
        for found in find_personal(text):
            if not self._stays(found):
                parts += [text[at : found.start], self._number(found)]
                at = found.end
        return "".join([*parts, text[at:]]) if parts else text

    def _stays(self, found: Finding) -> bool:
        if found.kind is Kind.IP:
            address = ipaddress.ip_address(found.text)
            return any(address.version == network.version and address in network for network in self._networks)
        return _read(found) in self._own

    def _number(self, found: Finding) -> str:
        known = self.numbers.setdefault(found.kind, {})
        return f"[{found.kind}:{known.setdefault(_read(found), len(known) + 1)}]"


def _read(found: Finding) -> str:
    """Whom it names, however it is written."""
    return found.text.lower().replace("%40", "@")


_OURS = frozenset({"cursor", "cut", "next"})
"""What we seal or say ourselves."""
