"""What personal data looks like in the texts of infrastructure: mail addresses, names in paths, IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import re2


class Kind(StrEnum):
    """What a mask says that it hides."""

    IP = "ip"
    MAIL = "mail"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of personal data, by its place in the text."""

    kind: Kind
    start: int
    end: int
    text: str


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}"
_V6 = rf"[0-9A-Fa-f]{{3,4}}(?::[0-9A-Fa-f]{{0,4}}){{1,6}}:(?:{_V4}|[0-9A-Fa-f]{{0,4}})"
_SEPARATOR = r"(?:/|\\{1,4})"

_ANY = re2.compile(
    # Of a mail address what stands behind the @; before it, `_LOCAL` looks: so no search runs far and finds nothing.
    r"(?P<domain>(?:@|%40)(?:[\p{L}\p{N}-]+\.)+\p{L}{2,})"
    rf"|(?:^|[^\p{{L}}\p{{N}}_.~/-])(?:file://)?(?:[A-Za-z]:)?{_SEPARATOR}(?:(?:export|var|usr|mnt|data)/)?(?i:home|users){_SEPARATOR}"
    r"(?:(?P<full>[^\s/\\:;,\"<>|*?]+(?: [^\s/\\:;,\"<>|*?]+){1,3})\\|(?P<name>[^\s/\\:;,\"'<>|*?()\[\]{}]+))"
    rf"|(?P<v4>{_V4})|(?P<v6>{_V6})"
)
_LOCAL = re.compile(r"[\w.%+'-]*\w$")
_LOCAL_LONGEST = 64
_BEFORE = 160
_WORD_BEFORE = 12
_REQUEST = 8
_BEHIND = 4
_VERSION_BEFORE = re.compile(
    r"(?:[\w.]|[A-Za-z][/+~-]|(?:version|release|revision|chart|tag)[\s:=\"']{1,4})$", re.IGNORECASE
)
_TAG_BEFORE = re.compile(r"(?:^|[\s\"'=,(])[a-z0-9][a-z0-9.-]*(?::\d+)?(?:/[a-z0-9._-]+)+:$")
_REQUEST_BEFORE = re.compile(r"\b[A-Z]{3,7} $")  # a route of a web server, not a path
_LONGER_BEHIND = re.compile(r"\w|\.\d|[-+~][A-Za-z]")
_NETWORK_BEHIND = re.compile(r"/(\d{1,3})")

SUSPICIOUS = (
    r"[^\s\"@](?:@|%40)[^\s\"@.]+\.",
    r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
    r"[0-9A-Fa-f]{3,4}:[0-9A-Fa-f]{0,4}:",
    r"(?i:home|users)[/\\]",
)
"""What makes a text worth a closer look, as patterns over it or its JSON: they miss nothing that `find_personal` finds."""

_NOBODY = re.compile(
    r"admin|donotreply|do-not-reply|git|hostmaster|mailer-daemon|no-reply|noreply|notifications|postmaster|root",
    re.IGNORECASE,
)
_MACHINES = (
    ".gserviceaccount.com",
    ".internal",
    ".invalid",
    ".local",
    ".noreply.github.com",
    ".service",  # a unit of systemd
    ".svc",
)
_ACCOUNT = re.compile(
    r"airflow|all|app|appuser|argocd|circleci|coder|default|ec2-user|git|gitpod|jenkins|jovyan|linuxbrew|node|nonroot|"
    r"postgres|public|redis|root|runner|runneradmin|shared|spark|ubuntu|user|vcap|vscode|www-data|[$%.~].*",
    re.IGNORECASE,
)


def find_personal(text: str) -> Iterator[Finding]:
    """Every piece of personal data in the text, in its order; in linear time. Passed over are no-reply and `git@`
    addresses, accounts of machines, versions, image tags, networks, and addresses that are nobody's."""
    end = 0
    for match in _ANY.finditer(text):
        found = _judge(text, match, end)
        if found is not None:
            end = found.end
            yield found


def _judge(text: str, match: Any, earliest: int) -> Finding | None:
    """What a match is; `earliest` is where the one before ended."""
    start, end = match.span(match.lastindex)
    told = match[match.lastindex]
    if match.lastgroup == "domain":
        return _judge_mail(text, start, end, earliest)
    if match.lastgroup in ("name", "full"):
        route = _REQUEST_BEFORE.search(text[max(0, match.start() - _REQUEST) : match.start() + 1])
        return None if route or _ACCOUNT.fullmatch(told) else Finding(Kind.NAME, start, end, told)
    found = Finding(Kind.IP, start, end, told)
    return found if _is_somebodys(text, found) else None


def _judge_mail(text: str, at: int, end: int, earliest: int) -> Finding | None:
    local = _LOCAL.search(text, max(earliest, at - _LOCAL_LONGEST), at)
    if local is None:
        return None
    domain = text[at:end].lower().removeprefix("@").removeprefix("%40")
    version = all(part.isdigit() for part in domain.split(".")[:2])  # pkg@4.17.21-beta.x
    if _NOBODY.fullmatch(local[0]) or domain.endswith(_MACHINES) or version:
        return None
    begin = local.start()
    if text.startswith("://", max(0, begin - 3)):  # who logs in at a host, which may be known
        return None if _ACCOUNT.fullmatch(local[0]) else Finding(Kind.NAME, begin, at, local[0])
    return Finding(Kind.MAIL, begin, end, text[begin:end])


def _is_somebodys(text: str, found: Finding) -> bool:
    before, behind = text[max(0, found.start - _BEFORE) : found.start], text[found.end : found.end + _BEHIND]
    if _VERSION_BEFORE.search(before[-_WORD_BEFORE:]) or _LONGER_BEHIND.match(behind):
        return False
    if before.endswith(":") and _TAG_BEFORE.search(before):
        return False
    try:
        address = ipaddress.ip_address(found.text)
    except ValueError:
        return False
    network = _NETWORK_BEHIND.match(behind)
    if network is not None and int(network[1]) < address.max_prefixlen:
        return False
    return not (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or address.is_reserved
    )
