"""Which browser sent a request, as far as its headers tell: to hold a session to it, and to name it to its owner."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from starlette.datastructures import Headers

# The first that fits, since each of them calls itself by the names of those after it too.
_FAMILIES = (
    ("Edge", re.compile(r"\bEdg(?:e|A|iOS)?/")),
    ("Opera", re.compile(r"\bOPR/")),
    ("Samsung Internet", re.compile(r"\bSamsungBrowser/")),
    ("Firefox", re.compile(r"\b(?:Firefox|FxiOS)/")),
    ("Chrome", re.compile(r"\b(?:HeadlessChrome|Chrome|Chromium|CriOS)/")),
    ("Safari", re.compile(r"\bSafari/")),
)
_PLATFORMS = (
    ("iOS", re.compile(r"\b(?:iPhone|iPad|iPod)\b")),
    ("Android", re.compile(r"\bAndroid\b")),
    ("ChromeOS", re.compile(r"\bCrOS\b")),
    ("Windows", re.compile(r"\bWindows\b")),
    ("macOS", re.compile(r"\bMac OS X\b")),
    ("Linux", re.compile(r"\bLinux\b")),
)
_VERSIONS = re.compile(r"[\d._]+")


@dataclass(frozen=True, slots=True)
class Browser:
    """`name` is for people, in our own words alone; `mark` is the same for as long as the browser is.

    The mark is a hash of the User-Agent without its numbers, so that a browser may update itself in mid-session."""

    name: str
    mark: str


def read_browser(headers: Headers) -> Browser:
    """The browser that sent these headers."""
    agent = headers.get("user-agent", "")
    family = next((name for name, pattern in _FAMILIES if pattern.search(agent)), "Another browser")
    platform = next((name for name, pattern in _PLATFORMS if pattern.search(agent)), "")
    mark = hashlib.sha256(_VERSIONS.sub("", agent).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Browser(f"{family} on {platform}" if platform else family, mark)
