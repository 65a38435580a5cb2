"""Probes: what else has to be seen, besides the app's own health, before a change counts as having worked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .closed import Closed

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class RedisProbe(Closed):
    """Every primary of a Redis answers, is one, and has `replicas` that are connected and at most `lag` seconds behind.

    `source` is a name in the settings (`redis`)."""

    kind: Literal["redis"] = "redis"
    source: Name
    replicas: int = Field(default=0, ge=0, le=100)
    lag: int = Field(default=10, ge=0, le=3_600)

    def __str__(self) -> str:
        behind = f" with {self.replicas} replicas at most {self.lag} s behind" if self.replicas else ""
        return f"the Redis {self.source} answers{behind}"


class HaproxyProbe(Closed):
    """A backend of an HAProxy has at least `up` servers that are UP by their checks.

    `endpoint` is a name in the settings (`applier.probes.haproxy`)."""

    kind: Literal["haproxy"] = "haproxy"
    endpoint: Name
    backend: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")]
    up: int = Field(default=1, ge=1, le=10_000)

    def __str__(self) -> str:
        return f"{self.up} servers of the backend {self.backend} are up at the HAProxy {self.endpoint}"


Probe = Annotated[RedisProbe | HaproxyProbe, Field(discriminator="kind")]
