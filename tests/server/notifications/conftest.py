"""Proposals in a small world, with notifiers that can be started, ended and started again."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import pytest

from arborgate.server.background import running
from arborgate.server.metrics import Metrics
from arborgate.server.notifications.delivering import pause_after
from arborgate.server.notifications.notifier import Notifier
from arborgate.server.notifications.outbox import Outbox
from arborgate.server.notifications.people import People
from arborgate.server.notifications.settings import NotifySettings
from arborgate.tools.record import Event, Record
from tests.server.notifications.notifying import open_notifier
from tests.server.notifications.receivers import MailReceiver, WebReceiver, receive_mail, receive_web, wait_until
from tests.server.web.world import World, open_world

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Desk:
    """The world, and what notifiers in it are made of."""

    world: World
    folder: Path
    web: WebReceiver
    metrics: Metrics
    client: httpx2.AsyncClient
    notify: NotifySettings
    rounds: dict[Notifier, int] = field(default_factory=dict)
    """How often each notifier at work has gone round."""

    def webhook(self, name: str = "ops", path: str = "/ops", **fields: Any) -> dict[str, Any]:
        file = self.folder / "webhook.secret"
        file.write_text(SECRET + "\n")
        return {"name": name, "url": f"{self.web.url}{path}", "secret_file": file, **fields}

    def slack(self, name: str = "chat", path: str = "/chat", **fields: Any) -> dict[str, Any]:
        file = self.folder / f"{name}.url"
        file.write_text(f"{self.web.url}{path}\n")
        return {"name": name, "url_file": file, **fields}

    def mail(self, server: MailReceiver, **fields: Any) -> dict[str, Any]:
        to = {"name": "list", "to": ["ops@example.org"]}
        return {"smtp": self.smtp(server, **fields), "mail": [to]}

    def smtp(self, server: MailReceiver, **fields: Any) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": server.port,
            "security": "none",
            "sender": "arborgate@example.org",
            **fields,
        }

    def use(self, **settings: Any) -> None:
        self.notify = NotifySettings.model_validate(settings)

    def open(self, **changes: Any) -> Notifier:
        parts = {"metrics": self.metrics, "pause": partial(pause_after, draw=lambda: 1.0), **changes}
        return open_notifier(self.world, self.notify, self.client, **parts)

    @asynccontextmanager
    async def notifying(self, replicas: int = 1, **changes: Any) -> AsyncIterator[None]:
        """So many notifiers at work. They follow what happens from the moment they have joined."""
        async with AsyncExitStack() as stack:
            for _ in range(replicas):
                notifier = self.open(**changes)
                stack.enter_context(self._counting(notifier))
                await stack.enter_async_context(running(notifier.run()))
            stream = self.world.state.key("events")
            async with asyncio.timeout(10):
                while not await self._joined(stream):
                    await asyncio.sleep(0.01)
            yield

    async def go_round(self) -> None:
        """Until each notifier at work has looked at all there is by now, and nothing is being sent any more."""
        wanted = {notifier: rounds + 2 for notifier, rounds in self.rounds.items()}  # one may have begun before
        await wait_until(lambda: all(self.rounds[each] >= rounds for each, rounds in wanted.items()))
        await wait_until(lambda: not any(task.get_name().startswith("notification ") for task in asyncio.all_tasks()))

    @contextmanager
    def _counting(self, notifier: Notifier) -> Iterator[None]:
        go_round = notifier._go_round
        self.rounds[notifier] = 0

        async def counted() -> None:
            await go_round()
            self.rounds[notifier] += 1

        with patch.object(notifier, "_go_round", counted):
            yield
        del self.rounds[notifier]

    async def _joined(self, stream: str) -> bool:
        redis = self.world.state.redis
        return bool(await redis.exists(stream)) and bool(await redis.xinfo_groups(stream))

    @property
    def people(self) -> People:
        return People(self.world.state)

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.world.state, lease=1.0)

    def records(self) -> list[Record]:
        """What is on record of notifications, but for what was intended."""
        told = self.world.records(Event.NOTIFICATION_SENT, Event.NOTIFICATION_FAILED)
        return [record for record in told if record.outcome != "intended"]

    def counted(self) -> Mapping[tuple[str, str], float]:
        return {
            (sample.labels["medium"], sample.labels["outcome"]): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "arborgate_notifications_total"
        }


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str) -> AsyncIterator[Desk]:
    async with (
        open_world(tmp_path / "record", redis_url) as world,
        receive_web() as web,
        httpx2.AsyncClient(trust_env=False, timeout=5.0, follow_redirects=False) as client,
    ):
        world.clock.now = float(int(time.time()))
        yield Desk(world, tmp_path, web, Metrics(), client, NotifySettings())


@pytest.fixture
def mail_server() -> Iterator[MailReceiver]:
    with receive_mail() as receiver:
        yield receiver
