"""What agents and systems write can't call people, fake links, hide, or reach a header: a table of texts that try."""

import time
from email.message import EmailMessage
from typing import Any

import orjson
import pytest

from arborgate.server.masking import Masker
from arborgate.server.notifications.mail import Mailer
from arborgate.server.notifications.notice import Notice, NoticeWriter
from arborgate.server.notifications.occasions import Occasion
from arborgate.server.notifications.settings import MailSecurity, SmtpSettings
from arborgate.server.notifications.webhook import describe, write_slack
from arborgate.server.redaction import Redactor
from arborgate.tools.change import Rehearsal
from arborgate.tools.proposal import Content, Proposal, ProposalState, Requester
from arborgate.tools.risk import Risk
from tests.server.web.world import DEV, make_change, make_factor

HOSTILE = {
    "calls everybody": "<!channel> approve this now",
    "calls those who are here": "<!here|here>",
    "calls one person": "<@U024BE7LH> please",
    "calls a group": "<!subteam^SAZ94GDB8>",
    "calls without brackets": "@channel @here @all @everyone",
    "links elsewhere in Slack's form": "<https://evil.example/approve|Open the proposal>",
    "links elsewhere in Markdown": "[Open the proposal](https://evil.example/approve)",
    "shows an image": "![x](https://evil.example/pixel.png)",
    "names a bare address": "Decide at https://evil.example/approve instead",
    "offers to write": "mailto:boss@evil.example",
    "is escaped already": "&lt;!channel&gt; &amp;lt;!here&amp;gt;",
    "is HTML": '<a href="https://evil.example">Approve</a><script>alert(1)</script>',
    "adds a header": "x\r\nBcc: all@evil.example\r\n\r\nApproved by April",
    "adds a header with a lone line feed": "x\nSubject: Approved",
    "ends the letter": "x\r\n.\r\nMAIL FROM:<evil@evil.example>",
    "forges our lines": "ok\nRisk: low\nDecided by: April\nApprovals: 1 of 1",
    "forges our marks": "fine» Approved by «April",
    "forges the margin": "ok\n\nRead it, compare the digest and decide on the page:\nhttps://evil.example",
    "turns the line around": "safe \u202eevorppa\u202c text",
    "hides letters": "ap\u200bpro\u2060ve \U000e0041\U000e0042",
    "drives a terminal": "\x1b]8;;https://evil.example\x07Open\x1b]8;;\x07 \x1b[2J",
    "is bold and quoted": "*Approved* _by_ `April` > quoted ~struck~",
    "is very long": "please " * 5_000,
    "is nothing": "",
    "holds a token": "use ghp_" + "a1B2" * 9 + " to log in",
    "holds a password": "postgres://app:hunter2-very-secret@db.example/app",
    "holds personal data": "ask jane.doe@corp.example at 203.0.113.77",
}
LINK = "https://arborgate.example/proposals/p-1"


def make_notice(words: str, occasion: Occasion = Occasion.PROPOSED, proposal_id: str = "p-1") -> Notice:
    """A notice in which all that others can write is `words`."""
    now = time.time()
    requester = Requester.of(DEV).model_copy(update={"name": words or "Dev", "agent": words})
    content = Content(
        id=proposal_id,
        title=words,
        reason=words,
        requester=requester,
        created_at=now,
        expires_at=now + 3_600,
        environments=("production",),
        risk=Risk.HIGH,
        factors=(make_factor(words),),
        approvals_needed=1,
        changes=(make_change(),),
        rehearsal=Rehearsal(changes=(), at=now),
    )
    proposal = Proposal(
        content=content, digest="0123456789abcdef" * 4, state=ProposalState.PROPOSED, state_at=now, state_note=words
    )
    writer = NoticeWriter(Redactor().clean_text, Masker(), "https://arborgate.example")
    return writer.write(proposal, occasion, at=now)


def make_letter(notice: Notice) -> EmailMessage:
    smtp = SmtpSettings(host="127.0.0.1", security=MailSecurity.NONE, sender="arborgate@example.org")
    return Mailer(smtp, "https://arborgate.example", 1.0).write(notice, ["ops@example.org"])


def list_texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for each in (value.values() if isinstance(value, dict) else value or []) for text in list_texts(each)]


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_in_a_chat_it_calls_nobody_and_links_nowhere(words: str) -> None:
    message = write_slack(make_notice(words))
    *others, ours = message["blocks"]
    assert ours["text"]["text"] == f"<{LINK}|Open the proposal>"
    for text in [*list_texts(others), message["text"]]:
        assert "<" not in text
        assert ">" not in text
        assert "://" not in text.replace(LINK, "")
        assert "](" not in text
        for called in ("@channel", "@here", "@all", "@everyone"):
            assert called not in text
    assert all(block["text"]["type"] == "plain_text" for block in others)
    assert all(len(block["text"]["text"]) <= 3_000 for block in others)
    assert {block["type"] for block in message["blocks"]} == {"header", "section"}


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_in_a_letter_it_stays_behind_its_marks_and_out_of_the_headers(words: str) -> None:
    letter = make_letter(make_notice(words))
    assert sorted(letter.keys()) == sorted(make_letter(make_notice("plain")).keys())
    assert letter["To"] == "ops@example.org"
    head, _, body = letter.as_bytes().partition(b"\r\n\r\n")
    assert not any(line.lower().startswith((b"bcc", b"mail from")) for line in head.splitlines())
    plain = make_letter(make_notice("plain")).get_content().splitlines()
    ours = [line.partition("«")[0] for line in plain if not line.startswith("| ")]
    for line in letter.get_content().splitlines():
        assert line.startswith("|") or line.partition("«")[0] in ours, line
    assert b"://evil.example" not in body
    assert letter.get_content().count("://") == letter.get_content().count("https://arborgate.example")


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_in_a_webhook_it_is_data_marked_as_untrusted(words: str) -> None:
    body = describe(make_notice(words))
    assert orjson.loads(orjson.dumps(body)) == body
    ours = {
        name: value for name, value in body["data"].items() if name not in ("untrusted", "requester", "risk_reasons")
    }
    plain = describe(make_notice("plain"))["data"]
    timed = {"created_at", "expires_at"}
    assert {name: value for name, value in ours.items() if name not in timed} == {
        name: plain[name] for name in ours if name not in timed
    }
    assert all(len(text) <= 700 for text in list_texts(body["data"]["untrusted"]))


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_nothing_hidden_secret_or_personal_is_in_any_message(words: str) -> None:
    notice = make_notice(words)
    for text in (
        orjson.dumps(describe(notice)).decode(),
        orjson.dumps(write_slack(notice)).decode(),
        make_letter(notice).as_string(),
    ):
        for hidden in ("\u202e", "\u200b", "\u2060", "\U000e0041", "\\u001b", "\x1b", "a1B2a1B2", "hunter2"):
            assert hidden not in text
    masked = notice.model_copy(update={"requester": "", "agent": ""})
    for personal in ("jane.doe", "203.0.113.77"):
        assert personal not in orjson.dumps(describe(masked)).decode()


@pytest.mark.parametrize("occasion", Occasion)
def test_every_occasion_can_be_written_for_every_medium(occasion: Occasion) -> None:
    notice = make_notice("plain", occasion)
    assert describe(notice)["type"] == f"proposal.{occasion}"
    assert write_slack(notice)["blocks"]
    assert make_letter(notice)["Subject"].startswith("[Arborgate] ")


def test_an_id_that_nobody_gave_leads_nowhere_else() -> None:
    notice = make_notice("plain", proposal_id="p-1|Approve>\n<https://evil.example")
    assert notice.link == "https://arborgate.example/proposals/p-1%7CApprove%3E%0A%3Chttps%3A%2F%2Fevil.example"
