"""A notifier in a world of proposals, in a hurry."""

from typing import Any

import httpx2

from arborgate.server.masking import Masker
from arborgate.server.metrics import Metrics
from arborgate.server.notifications.notifier import Notifier, Pace
from arborgate.server.notifications.opening import Notifications
from arborgate.server.notifications.settings import NotifySettings
from arborgate.server.redaction import Redactor
from tests.server.web.world import ROLES, World


def open_notifier(world: World, notify: NotifySettings, client: httpx2.AsyncClient, **changes: Any) -> Notifier:
    """`changes` replace any of the parts. It looks at what waits in each of its rounds."""
    parts: dict[str, Any] = {
        "settings": notify,
        "url": world.url,
        "pages": True,
        "state": world.state,
        "roles": ROLES,
        "engine": world.pages.engine,
        "tree": world.tree,
        "recorder": world.audit,
        "metrics": Metrics(),
        "client": client,
        "clean": Redactor().clean_text,
        "masker": Masker(),
        "pace": Pace(sweep=0.001, abandoned=0.2, clock=world.clock),
    }
    return Notifications(**{**parts, **changes}).open()
