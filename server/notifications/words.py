"""What a message says, in lines that every kind of channel shares, and what others wrote made harmless in it."""

from __future__ import annotations

import re

from ...tools.text import quote
from ...tools.times import write_time
from .notice import Notice
from .occasions import HEADINGS, Occasion

AGENT_WORDS = "The agent's words, which nobody has checked"

_MENTION = re.compile(r"(?<!\w)@(?=\w)")
_DECIDED = frozenset({Occasion.APPROVED, Occasion.GLASS_BROKEN, Occasion.REJECTED})


def defang(text: str) -> str:
    """The text with nothing in it that a chat or a mail program would make a mention or a link of: `@all` and
    `https://…` stay readable and do nothing."""
    return _MENTION.sub("＠", text).replace("://", "[:]//").replace("mailto:", "mailto[:]")


def quote_words(text: str) -> str:
    """What others wrote, on one line between marks that it can't forge, defanged; `""` for none."""
    return quote(defang(text))


def write_heading(notice: Notice) -> str:
    """The first line, all of it in our own words but for names."""
    where = ", ".join(map(defang, notice.environments))
    return f"{HEADINGS[notice.occasion]}: {notice.risk} risk{f' in {where}' if where else ''}"


def list_facts(notice: Notice) -> list[tuple[str, str]]:
    """The lines under it, each a label and a text that is safe to show."""
    waits, page = notice.occasion.waits, [f"{notice.approvals} of {notice.approvals_needed}"]
    agent = f", through the agent {quote_words(notice.agent)}" if notice.agent else ""
    apps = ", ".join(map(defang, notice.apps)) + (f" and {notice.more_apps} more" if notice.more_apps else "")
    facts = [
        ("Asked for by", f"{quote_words(notice.requester)}{agent}"),
        ("Apps", apps),
        ("Risk", " ".join([str(notice.risk), *map(quote_words, notice.risk_reasons)])),
        ("Decided by", quote_words(notice.by) if notice.occasion in _DECIDED else ""),
        ("Approvals", page[0] if notice.approvals_needed else ""),
        ("Note", quote_words(notice.note)),
        ("Digest begins", notice.digest),
        ("Waits since", _moment(notice.created_at) if waits else ""),
        ("Expires", _moment(notice.expires_at) if waits and notice.expires_at else ""),
        ("Asked now", ", ".join(map(defang, notice.asked))),
        ("Usually approved by", ", ".join(map(defang, notice.usual)) if waits else ""),
    ]
    return [(label, text) for label, text in facts if text]


def _moment(seconds: float) -> str:
    return f"{write_time(seconds)[:16].replace('T', ' ')} UTC"
