"""Who receives notifications in the tests: a web server and a mail server on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

import orjson
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arborgate.server.settings import HttpSettings
from tests.parts.process import find_free_ports
from tests.server.serving import serving


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class WebReceiver:
    """Takes every POST. `answers` are what to say to the next ones: a status, or a status and headers; then 204."""

    url: str
    received: list[Received] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, nothing is answered."""

    def on(self, path: str) -> list[Received]:
        return [one for one in self.received if one.path == path]

    async def answer(self, request: Request) -> Response:
        self.received.append(Received(request.url.path, dict(request.headers), await request.body()))
        await self.open.wait()
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        return Response(status_code=status, headers=headers)


@asynccontextmanager
async def receive_web() -> AsyncIterator[WebReceiver]:
    (port,) = find_free_ports(1)
    receiver = WebReceiver(f"http://127.0.0.1:{port}")
    receiver.open.set()
    app = Starlette(routes=[Route("/{path:path}", receiver.answer, methods=["POST", "GET"])])
    async with serving(app, HttpSettings(port=port, drain_timeout=0.5)):
        yield receiver
        receiver.open.set()


@dataclass
class MailReceiver:
    """A mail server that keeps what it takes. `refuses` is what it says to addresses, `""` for taking them."""

    port: int
    password: str
    letters: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    refuses: str = ""

    async def handle_RCPT(  # noqa: N802  # aiosmtpd looks for this name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not self.refuses:
            envelope.rcpt_tos.append(address)
        return self.refuses or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        letter = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(letter, EmailMessage)
        self.letters.append((envelope.rcpt_tos, letter))
        return "250 OK"

    def check(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: Any) -> AuthResult:
        fits = isinstance(login, LoginPassword) and login.password == self.password.encode()
        return AuthResult(success=fits)


@contextmanager
def receive_mail(password: str = "", **options: Any) -> Iterator[MailReceiver]:
    """With a password the server wants a login; `options` are of aiosmtpd's controller."""
    (port,) = find_free_ports(1)
    receiver = MailReceiver(port, password)
    if password:
        options |= {"authenticator": receiver.check, "auth_required": True}
    controller = Controller(receiver, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield receiver
    finally:
        controller.stop()


async def wait_until(holds: Callable[[], object], seconds: float = 15.0) -> None:
    """Until it holds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)
