"""What the applier holds changes to besides their own checks: bake times, the apps around them, probes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ..tools.environments import UNASSIGNED
from ..tools.probes import HaproxyProbe, Name, Probe, RedisProbe
from .section import Seconds, Section


class HaproxySettings(Section):
    """The statistics page of an HAProxy, read over HTTP: its runtime socket could change things, and is never used."""

    url: str = Field(description="of its statistics page, `http://host:port/stats`")
    username: str = ""
    password_file: Path | None = None
    timeout: Seconds = 2.0

    @field_validator("url")
    @classmethod
    def _is_a_page(cls, value: str) -> str:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        if not whole or parts.query or parts.fragment or ";" in value:
            raise ValueError("should be the http:// or https:// address of a statistics page, with nothing behind it")
        return value


class ProbeSettings(Section):
    """Where probes look, and what changes of an app are held to besides its health."""

    haproxy: Mapping[Name, HaproxySettings] = Field(default_factory=dict)
    apps: Mapping[str, tuple[Probe, ...]] = Field(
        default_factory=dict, description="app name or id: what has to hold after its changes"
    )

    def of(self, app: str) -> tuple[Probe, ...]:
        """The probes of an app by its id; an entry with the whole id wins over one with the name."""
        return tuple(self.apps.get(app) or self.apps.get(app.rpartition("/")[2]) or ())

    @model_validator(mode="after")
    def _endpoints_are_known(self) -> ProbeSettings:
        for app, probes in self.apps.items():
            for probe in probes:
                if isinstance(probe, HaproxyProbe) and probe.endpoint not in self.haproxy:
                    raise ValueError(f"apps.{app}: there is no haproxy {probe.endpoint!r}")
        return self


class GateSettings(Section):
    """What has to hold before the next wave of changes begins, and before a proposal counts as applied."""

    bake: Mapping[str, Annotated[int, Field(ge=0, le=86_400)]] = Field(
        default_factory=dict, description="environment: seconds that a wave has to stay healthy; default 0"
    )
    watch_siblings: bool = Field(
        default=True, description="undo a proposal when a parent or sibling of its apps that was healthy breaks"
    )
    probes: ProbeSettings = ProbeSettings()

    def find_strangers(self, environments: Collection[str], redis: Collection[str]) -> list[str]:
        """What these settings name that the others do not know."""
        named = sorted(self.bake.keys() - {*environments, UNASSIGNED})
        sources = sorted(
            {probe.source for probes in self.probes.apps.values() for probe in probes if isinstance(probe, RedisProbe)}
            - set(redis)
        )
        return [f"bake.{name}: there is no such environment" for name in named] + [
            f"probes.apps: there is no Redis source {name!r}" for name in sources
        ]
