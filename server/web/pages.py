"""The approval pages and the terminal's endpoints, put together: what they need, and the routes they answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from joserfc.jwk import OKPKey
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from ...policies.engine import Engine
from ...policies.model import Caller
from ...tools.promotion.ladder import PromotionSettings
from ...tools.proposal import Approval, Proposal
from ...tools.record import Records
from ...tools.tree import AppTree
from ..enrolment import Enrolment
from ..gate import Recorder
from ..identity.authentication import DenyList
from ..identity.callers import Identified, identify
from ..identity.roles import RoleMembers
from ..identity.settings import IssuerSettings, PagesSettings
from ..masking import Masker
from ..notifications.outbox import Outbox
from ..notifications.people import People
from ..notifications.settings import NotifySettings
from ..passkeys import RelyingParty
from ..settings import PasskeyUse
from ..state import State
from ..steering import Steering
from .account import Account
from .attempts import Attempts
from .entrance import Entrance
from .guard import Origin
from .live import LivePage
from .login import Login
from .logout import BackChannel, LogoutHook
from .masks import Masking
from .moved import Live, Lookout
from .notification_pages import NotificationPages
from .passkey_pages import PasskeyPages
from .policy_pages import PolicyPages
from .provider import Provider
from .record_pages import RecordPages
from .render import Renderer
from .review import Book, Review
from .sessions import Sessions
from .site import Site
from .steering_forms import SteeringForms
from .terminal import Terminal
from .workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Everything that people approve with.

    `url` is the public URL without a slash at its end. `issuer` and `identify` say how the claims of a login are read: as
    those of the same provider's tokens. `sign` signs approvals.
    `terminal` finds the caller of a request by a token whose audience is `<url>/approvals`, or says what to answer.
    `clean` takes secrets out of text, and `masker` personal data. `on_logout` is called with issuer and subject when the
    provider logs somebody out; their sessions here end without it. Who is on the list `denied` has no session.
    `acr_values` are the provider's kinds of login, the weakest first. `glass_lasts` is how many seconds after breaking
    the glass applying must have begun. `must_sign` says whether the next approval of a proposal has to be signed.
    `live` reads the objects that changes are of, with credentials that can only read. `ladder` says which environment is
    below which.
    `logs` is the folder of the record, for deciding again what is on it and for proving it; `record_key` is the public half
    of what signs the log of `replica` there.
    `clock` is seconds since the epoch.
    """

    settings: PagesSettings
    issuer: IssuerSettings
    url: str
    roles: RoleMembers
    state: State
    engine: Callable[[], Engine]
    tree: AppTree
    book: Book
    records: Records
    audit: Recorder
    sign: Callable[[Approval], Approval]
    terminal: Callable[[Scope], Awaitable[Caller | Response]]
    client: httpx2.AsyncClient
    clean: Callable[[str], str]
    masker: Masker = field(default_factory=Masker)
    demo: bool = False
    clock: Callable[[], float] = time.time
    acr_values: tuple[str, ...] = ()
    identify: Callable[[Mapping[str, Any], IssuerSettings], Identified] = identify
    on_logout: LogoutHook | None = None
    denied: DenyList | None = None
    glass_lasts: float = 900.0
    logs: Path = Path()
    replica: str = ""
    record_key: OKPKey | None = None
    passkeys: PasskeyUse = PasskeyUse.OFF
    notify: NotifySettings = field(default_factory=NotifySettings)
    environments: Sequence[str] = ()
    must_sign: Callable[[Proposal], bool] = lambda _: False
    live: Live | None = None
    ladder: PromotionSettings = PromotionSettings()  # noqa: RUF009  # a constant

    def routes(self) -> list[BaseRoute]:
        """What to mount at `/`. Raises `BadConfiguration` when the public URL is plain http beyond this machine, or one
        that no browser makes passkeys for."""
        enrolment = self._open_enrolment()
        review = Review(
            self.book,
            self.records,
            self.tree,
            self.engine,
            self.audit,
            self.sign,
            Steering(self.state, self.book, self.audit, self.clock),
            self.clock,
            acr_values=self.acr_values,
            glass_lasts=self.glass_lasts,
            enrolment=enrolment,
            must_sign=self.must_sign,
        )
        sessions = Sessions(self.settings, self.state, self.roles, self.audit, clock=self.clock, denied=self.denied)
        provider = Provider(self.settings, self.client, clock=self.clock)
        attempts = Attempts(self.state, clock=self.clock)
        masking = Masking(self.clean, self.masker)
        entrance = Entrance(
            Origin.of(self.url),
            sessions,
            self.audit,
            Renderer(
                masking,
                clock=self.clock,
                demo=self.demo,
                passkeys=enrolment is not None,
                notifies=self.notify.mails_people,
            ),
            review.count_unreviewed,
            review.reads_personal,
        )
        notifications = self._open_notifications(entrance)
        account = Account(
            entrance,
            provider,
            Login(
                self.settings,
                self.url,
                provider,
                attempts,
                issuer=self.issuer,
                identify=self.identify,
                clock=self.clock,
            ),
            BackChannel(provider, sessions, self.state, self.audit, clock=self.clock, on_logout=self.on_logout),
            notifications.follow_login if notifications else None,
        )
        site = Site(entrance, account, review, self.clean, self.clock, Lookout(self.tree, self.live), self.ladder)
        steering = SteeringForms(entrance, review, self.clean).routes()
        live = LivePage(entrance, review, self.book.follower).routes()
        passkeys = PasskeyPages(entrance, account, enrolment, self.clock).routes() if enrolment else []
        terminal = Terminal(self.settings, self.url, review, self.terminal, masking)
        workbench = Workbench(self.engine, review, self.audit, self.roles, self.clock, self.logs)
        return [
            *site.routes(),
            *steering,
            *live,
            *passkeys,
            *(notifications.routes() if notifications else []),
            *PolicyPages(entrance, workbench).routes(),
            *self._show_record(entrance).routes(),
            *terminal.routes(),
        ]

    def _show_record(self, entrance: Entrance) -> RecordPages:
        return RecordPages(
            entrance,
            self.engine,
            self.records,
            self.audit,
            self.clock,
            self.logs,
            replica=self.replica,
            key=self.record_key,
        )

    def _open_notifications(self, entrance: Entrance) -> NotificationPages | None:
        if not self.notify.mails_people:
            return None
        people, outbox = People(self.state), Outbox(self.state, lease=self.notify.timeout)
        return NotificationPages(entrance, people, outbox, self.environments, self.audit, self.clock)

    def _open_enrolment(self) -> Enrolment | None:
        if self.passkeys is PasskeyUse.OFF:
            return None
        return Enrolment(self.state, RelyingParty.of(self.url), self.passkeys, self.audit, clock=self.clock)
