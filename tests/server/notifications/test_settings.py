"""Settings of notifications that can't work, or would not be safe, refuse to start and say what to do."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from arborgate.policies.errors import BadConfiguration
from arborgate.server.notifications.mail import Mailer
from arborgate.server.notifications.settings import (
    MailSecurity,
    NotifySettings,
    SlackSettings,
    SmtpSettings,
    WebhookSettings,
)
from arborgate.server.notifications.webhook import SlackSender, WebhookSender
from arborgate.server.settings import parse_settings

pytestmark = pytest.mark.anyio

HOOK = {"name": "ops", "url": "https://hooks.example/x", "secret_file": "secret"}
SMTP = {"host": "mail.example", "sender": "arborgate@example.org"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "plain http": ({"webhooks": [{**HOOK, "url": "http://hooks.example/x"}]}, "https URL"),
    "another scheme": ({"webhooks": [{**HOOK, "url": "file:///etc/passwd"}]}, "https URL"),
    "a user in the URL": ({"webhooks": [{**HOOK, "url": "https://me:pw@hooks.example/x"}]}, "https URL"),
    "a name twice": ({"webhooks": [HOOK], "slack": [{"name": "ops", "url_file": "x"}]}, "same name"),
    "the name of people": ({"webhooks": [{**HOOK, "name": "people"}]}, "called people"),
    "an unknown event": ({"webhooks": [{**HOOK, "events": ["proposal"]}]}, "notify.webhooks.0.events.0"),
    "an unknown environment": ({"webhooks": [{**HOOK, "environments": ["prod"]}]}, "no environment 'prod'"),
    "an escalation to nobody": ({"escalation": [{"after": 60, "channels": ["leads"]}]}, "no channel leads"),
    "an app that is no id": ({"webhooks": [{**HOOK, "apps": ["payments"]}]}, "notify.webhooks.0.apps.0"),
    "mail without a server": ({"mail": [{"name": "m", "to": ["a@example.org"]}]}, "needs smtp"),
    "mail to nobody": ({"smtp": SMTP, "mail": [{"name": "m", "to": []}]}, "notify.mail.0.to"),
    "an address with a header": (
        {"smtp": SMTP, "mail": [{"name": "m", "to": ["a@example.org\r\nBcc: b@example.org"]}]},
        "one mail address",
    ),
    "a sender with a name": ({"smtp": {**SMTP, "sender": "Me <a@example.org>"}}, "one mail address"),
    "mail in the clear": ({"smtp": {**SMTP, "security": "none"}}, "loopback alone"),
    "a user without a password": ({"smtp": {**SMTP, "username": "me"}}, "go together"),
    "a misspelt key": ({"webhook": []}, "did you mean 'webhooks'"),
}


@pytest.mark.parametrize(("notify", "said"), WRONG.values(), ids=WRONG)
def test_what_can_not_work_refuses_to_start(notify: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfiguration, match=said):
        parse_settings({"notify": notify, "environments": [{"name": "production"}]})


def test_without_settings_nobody_is_told_and_nothing_runs() -> None:
    assert not NotifySettings().enabled


@pytest.mark.parametrize("held", ["", "whsec_", "whsec_c2hvcnQ=", "not base64 at all", f"whsec_{'QUJD' * 30}"])
async def test_a_secret_that_is_none_is_named_by_its_file_alone(tmp_path: Path, held: str) -> None:
    file = tmp_path / "secret"
    file.write_text(held)
    settings = WebhookSettings.model_validate({**HOOK, "secret_file": file})
    async with httpx2.AsyncClient() as client:
        with pytest.raises(BadConfiguration, match=r"notify\.webhooks: ops: secret_file") as told:
            WebhookSender(settings, client, 1.0, lambda: 0.0)
    assert held.removeprefix("whsec_") == "" or held not in str(told.value)


@pytest.mark.parametrize(
    "held", ["http://chat.example/hush", "ftp://chat.example/hush", "https://a.example/hush b", ""]
)
async def test_a_chat_url_that_is_none_is_not_repeated(tmp_path: Path, held: str) -> None:
    file = tmp_path / "url"
    file.write_text(held)
    async with httpx2.AsyncClient() as client:
        with pytest.raises(BadConfiguration, match=r"notify\.slack: chat: url_file") as told:
            SlackSender(SlackSettings(name="chat", url_file=file), client, 1.0)
    assert "hush" not in str(told.value)


def test_a_password_that_can_not_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    smtp = SmtpSettings(
        host="127.0.0.1",
        security=MailSecurity.NONE,
        sender="a@example.org",
        username="me",
        password_file=tmp_path / "gone",
    )
    with pytest.raises(BadConfiguration, match="password_file"):
        Mailer(smtp, "", 1.0)
