"""What the page of a proposal gives to the browser that is to sign it: all of the content, so that it can see for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import rfc8785

from ...tools.proposal import Content
from .masks import Masks
from .words import reveal, reveal_clean


def write_content(content: Content, masks: Masks) -> str:
    """The content as canonical JSON, whose SHA-256 is the digest; `""` where the reader may not see every word of it."""
    plain = content.model_dump(mode="json")
    return rfc8785.dumps(plain).decode() if _shows(plain, masks) else ""


def _shows(value: object, masks: Masks) -> bool:
    if isinstance(value, str):
        return all(reveal_clean(line, masks.clean) == reveal(line) for line in value.split("\n"))
    if isinstance(value, Mapping):
        return all(masks.hide(str(name)) == name and _shows(inner, masks) for name, inner in value.items())
    return all(_shows(inner, masks) for inner in value) if isinstance(value, Sequence) else True
