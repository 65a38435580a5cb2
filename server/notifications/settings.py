"""The settings of notifications: where people are told, of what, and when they are reminded."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from ...tools.risk import Risk
from ..section import Seconds, Section, is_https_or_loopback
from .occasions import Occasion

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


def is_address(text: str) -> bool:
    """Whether it is one plain mail address (as HTML's `input type=email` has it), with nothing around it."""
    return len(text) <= 254 and _ADDRESS.fullmatch(text) is not None


def _check_address(text: str) -> str:
    if not is_address(text):
        raise ValueError("should be one mail address, as ops@example.org, without a name")
    return text


Address = Annotated[str, AfterValidator(_check_address)]


class ChannelSettings(Section):
    """What every channel has: its name, and what goes there. Empty filters let everything through."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    events: tuple[Occasion, ...] = Field(default=(), description="empty: all of them")
    environments: tuple[str, ...] = ()
    risks: tuple[Risk, ...] = ()
    apps: tuple[Annotated[str, Field(pattern=r"^[^/]+/[^/]+/[^/]+$")], ...] = Field(
        default=(), description="cluster/namespace/name: these apps and all below them"
    )
    groups: tuple[str, ...] = Field(default=(), description="whom it is for: named in the message")


class WebhookSettings(ChannelSettings):
    """A receiver of Standard Webhooks (https://www.standardwebhooks.com), signed with HMAC-SHA256."""

    url: str
    secret_file: Path = Field(
        description="whsec_ and 24 to 64 bytes in base64; a second line signs too, while receivers change over"
    )

    @field_validator("url")
    @classmethod
    def _url_is_safe(cls, value: str) -> str:
        if not is_https_or_loopback(value) or "@" in value:
            raise ValueError("should be an https URL without a user (http on loopback)")
        return value


class SlackSettings(ChannelSettings):
    """An incoming webhook of Slack, or of what takes the same messages (Mattermost, Rocket.Chat)."""

    url_file: Path = Field(description="a file with the URL, which is a secret")


class MailSettings(ChannelSettings):
    """Mail to fixed addresses, through `notify.smtp`."""

    to: tuple[Address, ...] = Field(min_length=1)


class MailSecurity(StrEnum):
    """How the connection to the mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class SmtpSettings(Section):
    """The mail server that takes our mail."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    security: MailSecurity = Field(default=MailSecurity.STARTTLS, description="none: on loopback alone")
    ca_file: Path | None = Field(default=None, description="the CA of its certificate; default: the system's")
    username: str = ""
    password_file: Path | None = None
    sender: Address

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if self.security is MailSecurity.NONE and self.host not in _LOOPBACK:
            raise ValueError("security: none is for loopback alone; use starttls or tls")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file go together")
        return self


class EscalationSettings(Section):
    """One step of escalation: whom else to tell of what nobody has decided."""

    after: Seconds = Field(description="seconds of waiting")
    channels: tuple[str, ...] = Field(default=(), description="names of channels; empty: all that take escalations")
    groups: tuple[str, ...] = Field(
        default=(), description="who is asked now: named in the message, mailed if they wish"
    )


class NotifySettings(Section):
    """Who is told of proposals, besides the pages. See docs/notifications.md."""

    webhooks: tuple[WebhookSettings, ...] = ()
    slack: tuple[SlackSettings, ...] = ()
    mail: tuple[MailSettings, ...] = ()
    smtp: SmtpSettings | None = None
    people: bool = Field(default=True, description="with smtp: people choose mail to themselves on /notifications")
    people_days: int = Field(default=30, ge=1, description="days after their last login that people are still mailed")
    approver_roles: tuple[str, ...] = Field(
        default=("approver",), description="the roles whose groups a message names as those who usually approve"
    )
    remind_after: tuple[Seconds, ...] = Field(default=(3_600.0, 14_400.0), description="seconds of waiting")
    expiring_before: Seconds = Field(default=3_600.0, description="how long before the end to say that it expires")
    escalation: tuple[EscalationSettings, ...] = ()
    stuck_after: Seconds = Field(
        default=900.0, description="how long a failed proposal may stay failed, or applying may show no progress"
    )
    attempts: int = Field(default=8, ge=1, le=20, description="how often a message is sent before it is given up")
    timeout: Seconds = Field(default=10.0, description="of one attempt")
    elicit: bool = Field(
        default=True, description="clients that can are asked to show their person the page of what they proposed"
    )

    @property
    def channels(self) -> Iterator[ChannelSettings]:
        yield from (*self.webhooks, *self.slack, *self.mail)

    @property
    def mails_people(self) -> bool:
        return self.people and self.smtp is not None

    @property
    def enabled(self) -> bool:
        """Whether anybody can be told at all."""
        return self.mails_people or any(True for _ in self.channels)

    def find_strangers(self, environments: Collection[str]) -> list[str]:
        """What the filters name that is in no rule of the environments."""
        known = {*environments, "unassigned"}
        named = {each: channel.name for channel in self.channels for each in channel.environments}
        return [f"channel {channel}: no environment {name!r}" for name, channel in named.items() if name not in known]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [channel.name for channel in self.channels]
        if len(set(names)) != len(names) or "people" in names:
            raise ValueError("two channels have the same name, or one is called people")
        strangers = {name for step in self.escalation for name in step.channels} - set(names)
        if strangers:
            raise ValueError(f"escalation: there is no channel {', '.join(sorted(strangers))}")
        if self.mail and self.smtp is None:
            raise ValueError("mail: needs smtp, the server that takes it")
        return self
