"""What every part of the settings is made of."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, description="seconds")]


class Section(BaseModel):
    """A part of the settings: an unknown key is an error, and nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_https_or_loopback(url: str) -> bool:
    """Whether what comes from this URL can't be forged on its way."""
    parts = urlsplit(url)
    own = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and own))
