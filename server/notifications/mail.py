"""Mail: plain text through one mail server, in a thread of its own, with headers that nobody else's words reach."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import urlsplit

from ...policies.errors import BadConfiguration
from ...tools.text import margin
from .notice import Notice
from .sending import Medium, Undelivered
from .settings import MailSecurity, SmtpSettings
from .words import AGENT_WORDS, defang, list_facts, quote_words, write_heading

_SUBJECT: Final = 150


class Mailer:
    """One mail server. `url` is that of the pages: what they are called names our messages."""

    def __init__(self, settings: SmtpSettings, url: str, timeout: float) -> None:
        self._settings = settings
        self._host = urlsplit(url).hostname or "arborgate.invalid"
        self._url = url
        self._timeout = timeout
        self._password = _read_password(settings)
        self._tls = _open_tls(settings)

    async def send(self, notice: Notice, to: Sequence[str]) -> None:
        """Raises `Undelivered`."""
        message = self.write(notice, to)
        await asyncio.to_thread(self._send, message)

    def write(self, notice: Notice, to: Sequence[str]) -> EmailMessage:
        """The whole message. Its id is the notice's own, so that mail programs know a second copy."""
        message = EmailMessage(policy=SMTP)
        message["From"] = self._settings.sender
        message["To"] = ", ".join(to)
        message["Subject"] = _write_subject(notice)
        message["Date"] = format_datetime(datetime.fromtimestamp(notice.at, UTC))
        message["Message-ID"] = f"<{notice.id}@{self._host}>"
        if notice.proposal:
            message["References"] = f"<{notice.proposal}@{self._host}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n".join(self._list_lines(notice)) + "\n")
        return message

    def _list_lines(self, notice: Notice) -> list[str]:
        lines = [write_heading(notice), "", quote_words(notice.title), ""]
        lines += [f"{label}: {text}" for label, text in list_facts(notice)]
        if notice.reason:
            lines += ["", f"{AGENT_WORDS}:", *margin(defang(notice.reason))]
        if notice.link:
            lines += [
                "",
                "Read it, compare the digest and decide on the page:" if notice.occasion.waits else "Its page:",
            ]
            lines += [notice.link]
        lines += ["", "An answer to this message reaches nobody, and decides nothing."]
        return [*lines, f"What you are told of: {self._url}/notifications"] if self._url else lines

    def _send(self, message: EmailMessage) -> None:
        settings = self._settings
        try:
            with self._connect() as server:
                if settings.security is MailSecurity.STARTTLS:
                    server.starttls(context=self._tls)
                if settings.username:
                    server.login(settings.username, self._password)
                refused = server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            final = all(code >= 500 for code, _ in error.recipients.values())
            raise Undelivered("the mail server refused the address", final=final) from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"the mail server answered {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Undelivered(f"the mail server could not be reached ({type(error).__name__})") from None
        if refused:
            raise Undelivered(f"the mail server refused {len(refused)} of the addresses", final=True)

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        if settings.security is MailSecurity.TLS:
            return smtplib.SMTP_SSL(settings.host, settings.port, timeout=self._timeout, context=self._tls)
        return smtplib.SMTP(settings.host, settings.port, timeout=self._timeout)


class MailSender:
    """A channel of mail to fixed addresses, or with none to whoever each message is for."""

    medium = Medium.MAIL

    def __init__(self, mailer: Mailer, to: Sequence[str] = ()) -> None:
        self._mailer = mailer
        self._to = tuple(to)

    async def send(self, notice: Notice, to: str = "", /) -> None:
        await self._mailer.send(notice, self._to or (to,))


def _write_subject(notice: Notice) -> str:
    """On one line, whatever it is made of. Marks of ASCII: mail programs fold others in the wrong places."""
    title = quote_words(notice.title).strip("«»").replace('"', "'")
    subject = " ".join(f'[Arborgate] {write_heading(notice)}: "{title}"'.split())
    return subject if len(subject) <= _SUBJECT else f"{subject[: _SUBJECT - 1]}…"


def _read_password(settings: SmtpSettings) -> str:
    if settings.password_file is None:
        return ""
    try:
        return settings.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"notify.smtp.password_file: can't be read: {type(error).__name__}") from error


def _open_tls(settings: SmtpSettings) -> ssl.SSLContext | None:
    if settings.security is MailSecurity.NONE:
        return None
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadConfiguration(f"notify.smtp.ca_file: can't be read: {type(error).__name__}") from error
