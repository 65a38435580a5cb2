"""Challenges taken apart: what a server asks for in `WWW-Authenticate` (RFC 9110 section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # a grammar's token, no secret
_ITEM = re.compile(r'[ \t,]*+((?:[^",]|"(?:[^"\\]|\\.)*+")++)(?:,|$)')
_PARAMETER = re.compile(rf'(?:({_TOKEN})[ \t]+)?({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")')
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+[A-Za-z0-9._~+/-]+=*)?")
_LONGEST = 8_192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: its scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def error(self) -> str:
        return self.parameters.get("error", "")


def read_challenges(header: str) -> list[Challenge]:
    """The challenges of one header, or of several joined by commas; what can't be read ends the list."""
    found: list[tuple[str, dict[str, str]]] = []
    header, position = header[:_LONGEST], 0
    while item := _ITEM.match(header, position):
        text, position = item[1].strip(), item.end()
        if parameter := _PARAMETER.fullmatch(text):
            scheme, name, plain, quoted = parameter.groups()
            if scheme:
                found.append((scheme.lower(), {}))
            if not found:
                break
            found[-1][1].setdefault(name.lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        elif bare := _SCHEME.fullmatch(text):
            found.append((bare[1].lower(), {}))
        else:
            break
    return [Challenge(scheme, parameters) for scheme, parameters in found]
