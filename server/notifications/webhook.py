"""Webhooks over HTTP: Standard Webhooks with their signatures, and the incoming webhooks of Slack."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson
from standardwebhooks import Webhook

from ...policies.errors import BadConfiguration
from ..section import is_https_or_loopback
from .notice import Notice
from .sending import Medium, Undelivered
from .settings import SlackSettings, WebhookSettings
from .words import AGENT_WORDS, list_facts, quote_words, write_heading

_LONGEST_WAIT: Final = 3_600.0
_GONE: Final = 410
_TEXT: Final = 2_900
"""Below what one block of Slack may hold."""


class WebhookSender:
    """Sends signed messages (Standard Webhooks 1.0): `webhook-id`, `webhook-timestamp`, `webhook-signature`."""

    medium = Medium.WEBHOOK

    def __init__(
        self, settings: WebhookSettings, client: httpx2.AsyncClient, timeout: float, clock: Callable[[], float]
    ) -> None:
        self._url = settings.url
        self._signers = _read_secrets(settings)
        self._client = client
        self._timeout = timeout
        self._clock = clock

    async def send(self, notice: Notice, _to: str = "", /) -> None:
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        body = orjson.dumps(describe(notice))
        signatures = [signer.sign(notice.id, now, body.decode()) for signer in self._signers]
        headers = {
            "content-type": "application/json",
            "webhook-id": notice.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        await post(self._client, self._url, body, headers, self._timeout)


class SlackSender:
    """Sends messages as Slack's incoming webhooks take them. They hold a link and nothing that can be pressed."""

    medium = Medium.SLACK

    def __init__(self, settings: SlackSettings, client: httpx2.AsyncClient, timeout: float) -> None:
        self._url = _read_url(settings)
        self._client = client
        self._timeout = timeout

    async def send(self, notice: Notice, _to: str = "", /) -> None:
        body = orjson.dumps(write_slack(notice))
        await post(self._client, self._url, body, {"content-type": "application/json"}, self._timeout)


def describe(notice: Notice) -> dict[str, Any]:
    """The body of a Standard Webhook: `type`, `timestamp` and `data`, where others' words stand in `untrusted`."""
    told = notice.model_dump(mode="json", exclude={"id", "occasion", "at", "title", "reason", "note", "agent"})
    untrusted = {"title": notice.title, "agent": notice.agent, "agent_words": notice.reason, "note": notice.note}
    at = datetime.fromtimestamp(notice.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": f"proposal.{notice.occasion}", "timestamp": at, "data": {**told, "untrusted": untrusted}}


def write_slack(notice: Notice) -> dict[str, Any]:
    """Blocks, and a text for those who show none. What is not ours is plain text, escaped, and between marks."""
    heading, title = write_heading(notice), quote_words(notice.title)
    facts = "\n".join(f"{label}: {text}" for label, text in list_facts(notice))
    blocks = [
        {"type": "header", "text": _plain(heading, 150)},
        {"type": "section", "text": _plain(title)},
        {"type": "section", "text": _plain(facts)},
    ]
    if notice.reason:
        blocks.append({"type": "section", "text": _plain(f"{AGENT_WORDS}:\n{quote_words(notice.reason)}")})
    if notice.link:
        ours = {"type": "mrkdwn", "text": f"<{notice.link}|Open the proposal>", "verbatim": True}
        blocks.append({"type": "section", "text": ours})
    return {"text": escape(f"{heading}. {title} {notice.link}".strip()), "blocks": blocks, "unfurl_links": False}


def escape(text: str) -> str:
    """The text as Slack takes it literally: without it `<!channel>` calls everybody, and `<url|text>` is a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def post(client: httpx2.AsyncClient, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
    """Sends once. A redirect is not followed, and what is answered is not looked at. Raises `Undelivered`."""
    try:
        async with client.stream(
            "POST", url, content=body, headers=dict(headers), timeout=timeout, follow_redirects=False
        ) as answer:
            status, after = answer.status_code, answer.headers.get("retry-after", "")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Undelivered(f"it could not be reached ({type(error).__name__})") from None
    if not 200 <= status < 300:
        wait = min(float(after), _LONGEST_WAIT) if after.isdecimal() else 0.0
        raise Undelivered(f"it answered {status}", final=status == _GONE, after=wait)


def _plain(text: str, limit: int = _TEXT) -> dict[str, Any]:
    return {
        "type": "plain_text",
        "text": escape(text if len(text) <= limit else f"{text[: limit - 1]}…"),
        "emoji": False,
    }


def _read_secrets(settings: WebhookSettings) -> list[Webhook]:
    where = f"notify.webhooks: {settings.name}: secret_file"
    secrets = [line.strip() for line in _read(settings.secret_file, where).splitlines() if line.strip()]
    try:
        lengths = [len(base64.b64decode(each.removeprefix("whsec_"), validate=True)) for each in secrets]
    except binascii.Error:
        lengths = []
    if not lengths or not all(24 <= length <= 64 for length in lengths):
        raise BadConfiguration(f"{where}: should hold whsec_ and 24 to 64 bytes in base64")
    return [Webhook(each) for each in secrets]


def _read_url(settings: SlackSettings) -> str:
    where = f"notify.slack: {settings.name}: url_file"
    url = _read(settings.url_file, where).strip()
    if not is_https_or_loopback(url) or any(each.isspace() for each in url):
        raise BadConfiguration(f"{where}: should hold one https URL")
    return url


def _read(file: Path, where: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{where}: can't be read: {type(error).__name__}") from error
