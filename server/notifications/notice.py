"""A notice: what people are told of a proposal on one occasion, without secrets, personal data and hidden characters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from ...tools.cuts import shorten
from ...tools.proposal import Proposal, Verdict
from ...tools.risk import Risk
from ...tools.text import disarm
from ..masking import Masker
from .occasions import Occasion

_TITLE = 200
_NAME = 80
_WORDS = 600
_REASONS = 6
_APPS = 8
_DIGEST = 12
"""How many characters of a digest people compare by eye, here and on the page."""


class Notice(BaseModel):
    """What happened to which proposal. Times are seconds since the epoch; `step` counts reminders and escalations.

    `title`, `reason` and `note` hold what others wrote; everything else in a message is ours, or a name. `by` is who
    decided, `link` the page (`""`: there are none), `usual` the groups that usually approve, `asked` those that it has come
    to. `reason` is the agent's words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    occasion: Occasion
    step: int
    at: float
    proposal: str
    title: str
    reason: str
    note: str
    requester: str
    agent: str
    by: str
    risk: Risk
    risk_reasons: tuple[str, ...]
    environments: tuple[str, ...]
    apps: tuple[str, ...]
    more_apps: int
    digest: str
    approvals: int
    approvals_needed: int
    created_at: float
    expires_at: float
    link: str
    usual: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @classmethod
    def sample(cls, whose: str, link: str, at: float) -> Self:
        """What somebody is sent who wants to see whether it arrives."""
        return cls(
            id=name_notice(f"test\n{whose}", Occasion.PROPOSED, int(at)),
            occasion=Occasion.PROPOSED,
            step=0,
            at=at,
            proposal="",
            title="This is a test: there is nothing to decide",
            reason="",
            note="",
            requester="Arborgate",
            agent="",
            by="",
            risk=Risk.LOW,
            risk_reasons=(),
            environments=(),
            apps=(),
            more_apps=0,
            digest="",
            approvals=0,
            approvals_needed=0,
            created_at=at,
            expires_at=0.0,
            link=link,
        )


def name_notice(proposal: str, occasion: Occasion, step: int) -> str:
    """The id of a message: the same from every replica and at every attempt, so that receivers know it again."""
    told = f"{proposal}\n{occasion}\n{step}"
    return f"msg_{hashlib.sha256(told.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class NoticeWriter:
    """Writes notices. `clean` takes secrets out of text; `url` is that of the pages, `""` where there are none."""

    clean: Callable[[str], str]
    masker: Masker
    url: str

    def write(
        self,
        proposal: Proposal,
        occasion: Occasion,
        *,
        step: int = 0,
        at: float,
        usual: tuple[str, ...] = (),
        asked: tuple[str, ...] = (),
    ) -> Notice:
        content, mask = proposal.content, self.masker.begin(())
        apps = tuple(dict.fromkeys(change.target.app.rpartition("/")[2] for change in content.changes))
        decided = [one for one in proposal.approvals if one.verdict is not Verdict.REJECT]

        def words(text: str, limit: int) -> str:
            return shorten(mask(self.clean(disarm(text))), limit)

        def name(text: str) -> str:
            """Who somebody is: that is what the message is about, so it is no personal data to hide."""
            return shorten(" ".join(self.clean(disarm(text)).split()), _NAME)

        return Notice(
            id=name_notice(proposal.id, occasion, step),
            occasion=occasion,
            step=step,
            at=at,
            proposal=proposal.id,
            title=words(content.title, _TITLE),
            reason=words(content.reason, _WORDS),
            note=words(proposal.state_note, _WORDS),
            requester=name(content.requester.name),
            agent=name(content.requester.agent),
            by=name(proposal.approvals[-1].approver.name) if proposal.approvals else "",
            risk=content.risk,
            risk_reasons=tuple(words(reason, _TITLE) for reason in content.risk_reasons[:_REASONS]),
            environments=tuple(map(name, content.environments)),
            apps=tuple(map(name, apps[:_APPS])),
            more_apps=max(len(apps) - _APPS, 0),
            digest=proposal.digest[:_DIGEST],
            approvals=len(decided),
            approvals_needed=content.approvals_needed,
            created_at=content.created_at,
            expires_at=proposal.ends_at,
            link=f"{self.url}/proposals/{quote(proposal.id, safe='')}" if self.url else "",
            usual=usual,
            asked=asked,
        )
