"""The notifier of one `serve`, put together from the settings and what the process has."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2

from ...policies.engine import Engine
from ...tools.tree import AppTree
from ..background import running
from ..gate import Recorder
from ..identity.authentication import DenyList
from ..identity.roles import RoleMembers
from ..masking import Masker
from ..metrics import Metrics
from ..proposal_store import ProposalStore
from ..state import State
from .audience import Audience
from .delivering import Delivering, pause_after
from .mail import Mailer, MailSender
from .notice import NoticeWriter
from .notifier import Notifier, Pace
from .outbox import PEOPLE, Outbox
from .people import People
from .sending import Sender
from .settings import NotifySettings
from .webhook import SlackSender, WebhookSender

if TYPE_CHECKING:
    from ..app import Services

_LEASE_BESIDE = 20.0
"""Seconds that an attempt may take besides the sending itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """Everything that people are told with. `url` is the public one, `pages` says whether there are pages there."""

    settings: NotifySettings
    url: str
    pages: bool
    state: State
    roles: RoleMembers
    engine: Callable[[], Engine]
    tree: AppTree
    recorder: Recorder
    metrics: Metrics
    client: httpx2.AsyncClient
    clean: Callable[[str], str]
    masker: Masker
    denied: DenyList | None = None
    pace: Pace = field(default_factory=Pace)
    pause: Callable[[int, float], float] = pause_after

    def open(self) -> Notifier:
        """The notifier, ready to run. Raises `BadConfiguration` for a secret that can't be read."""
        settings, clock = self.settings, self.pace.clock
        people = People(self.state) if settings.mails_people and self.pages else None
        audience = Audience(settings, self.tree, self.roles, self.engine, people, self.denied)
        outbox = Outbox(self.state, lease=settings.timeout + _LEASE_BESIDE)
        delivering = Delivering(
            outbox,
            self._open_senders(),
            audience,
            self.recorder,
            self.metrics,
            attempts=settings.attempts,
            clock=clock,
            pause=self.pause,
        )
        writer = NoticeWriter(self.clean, self.masker, self.url if self.pages else "")
        return Notifier(
            self.state, settings, ProposalStore(self.state), audience, writer, outbox, delivering, self.pace
        )

    def _open_senders(self) -> Mapping[str, Sender]:
        settings, client, timeout = self.settings, self.client, self.settings.timeout
        senders: dict[str, Sender] = {
            one.name: WebhookSender(one, client, timeout, time.time) for one in settings.webhooks
        }
        senders |= {one.name: SlackSender(one, client, timeout) for one in settings.slack}
        if settings.smtp is not None:
            mailer = Mailer(settings.smtp, self.url if self.pages else "", timeout)
            senders |= {one.name: MailSender(mailer, one.to) for one in settings.mail}
            senders[PEOPLE] = MailSender(mailer)
        return senders


@asynccontextmanager
async def open_notifications(services: Services) -> AsyncIterator[None]:
    """Tells people for as long as the block runs; does nothing where the settings name nobody to tell."""
    settings = services.settings
    if not settings.notify.enabled:
        yield
        return
    notifications = Notifications(
        settings=settings.notify,
        url=settings.http.url,
        pages=settings.identity.pages is not None,
        state=services.state,
        roles=settings.roles,
        engine=lambda: services.policies.current,
        tree=services.tree,
        recorder=services.audit,
        metrics=services.metrics,
        client=services.web,
        clean=services.redactor.clean_text,
        masker=Masker(settings.personal),
        denied=services.denied,
    )
    async with running(notifications.open().run()):
        yield
