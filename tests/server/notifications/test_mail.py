"""Mail through a real mail server: encrypted and logged in, or not at all."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arborgate.server.notifications.mail import Mailer
from arborgate.server.notifications.sending import Undelivered
from arborgate.server.notifications.settings import SmtpSettings
from tests.parts.certificates import CertificateAuthority
from tests.server.notifications.receivers import MailReceiver, receive_mail
from tests.server.notifications.test_hostile_words import make_notice

pytestmark = pytest.mark.anyio

PASSWORD = "a password for the mail server"


@contextmanager
def receive_protected(authority: CertificateAuthority, **options: Any) -> Iterator[MailReceiver]:
    """A mail server that takes nothing before STARTTLS and a login."""
    certificate, key = authority.issue("mail")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with receive_mail(PASSWORD, tls_context=context, require_starttls=True, **options) as receiver:
        yield receiver


def make_mailer(folder: Path, receiver: MailReceiver, **fields: Any) -> Mailer:
    (folder / "password").write_text(f"{PASSWORD}\n")
    told = {"host": "127.0.0.1", "port": receiver.port, "sender": "arborgate@example.org", **fields}
    return Mailer(SmtpSettings.model_validate(told), "https://arborgate.example", 5.0)


async def test_a_letter_goes_encrypted_and_with_a_login(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    with receive_protected(authority) as receiver:
        mailer = make_mailer(
            tmp_path, receiver, ca_file=authority.file, username="arborgate", password_file=tmp_path / "password"
        )
        await mailer.send(make_notice("plain"), ["a@example.org", "b@example.org"])
    ((to, letter),) = receiver.letters
    assert to == ["a@example.org", "b@example.org"]
    assert letter["Message-ID"] == f"<{make_notice('plain').id}@arborgate.example>"


async def test_a_server_with_a_certificate_of_nobody_gets_neither_password_nor_letter(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with receive_protected(CertificateAuthority(tmp_path / "other")) as receiver:
        ca_file = CertificateAuthority(tmp_path).file
        mailer = make_mailer(
            tmp_path, receiver, ca_file=ca_file, username="arborgate", password_file=tmp_path / "password"
        )
        with pytest.raises(Undelivered, match="SSLCertVerificationError"):
            await mailer.send(make_notice("plain"), ["a@example.org"])
    assert receiver.letters == []


async def test_a_server_that_can_not_encrypt_gets_nothing(tmp_path: Path) -> None:
    with receive_mail() as receiver, pytest.raises(Undelivered, match="SMTPNotSupportedError"):
        await make_mailer(tmp_path, receiver).send(make_notice("plain"), ["a@example.org"])
    assert receiver.letters == []


async def test_an_address_that_is_refused_for_good_is_not_tried_again(tmp_path: Path) -> None:
    with receive_mail() as receiver:
        mailer = make_mailer(tmp_path, receiver, security="none")
        receiver.refuses = "550 No such user"
        with pytest.raises(Undelivered) as final:
            await mailer.send(make_notice("plain"), ["gone@example.org"])
        receiver.refuses = "451 Later"
        with pytest.raises(Undelivered) as later:
            await mailer.send(make_notice("plain"), ["busy@example.org"])
    assert (final.value.final, later.value.final) == (True, False)
    assert "example.org" not in f"{final.value.why} {later.value.why}"


async def test_a_server_that_is_away_is_tried_again(tmp_path: Path) -> None:
    with receive_mail() as receiver:
        mailer = make_mailer(tmp_path, receiver, security="none")
    with pytest.raises(Undelivered, match="could not be reached") as told:
        await mailer.send(make_notice("plain"), ["a@example.org"])
    assert not told.value.final
