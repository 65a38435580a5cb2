"""Readiness: each source, whether it answers and how old its last word is, for `/readyz` and the metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..policies.errors import Unavailable
from ..policies.loader import Policies
from ..tools.argocd.source import ArgoCD
from ..tools.kubernetes.reflector import ReflectorStatus
from .metrics import Metrics
from .proposals import ProposalBook


class Readiness:
    """Ready means: every cluster's Applications were listed at least once. A source that is away later makes the calls
    that need it say so, and shows here; taking the whole server out of service for it would hide the rest."""

    def __init__(self, argocd: ArgoCD, proposals: ProposalBook, policies: Policies, metrics: Metrics) -> None:
        self._argocd = argocd
        self._policies = policies
        self._metrics = metrics
        self._proposals = proposals

    async def check(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether to send traffic here, and what to show."""
        now = time.monotonic()
        watches = [_watch(status, now) for status in self._argocd.statuses()]
        ready = all(watch["synced"] for watch in watches if watch["kind"] == "applications")
        state = await self._answers()
        for name, group in _by_cluster(watches).items():
            # A kind that is not installed is asked for rarely: its silence says nothing about the cluster.
            ages = [watch["age_seconds"] for watch in group if watch["age_seconds"] is not None and not watch["absent"]]
            up = all(watch["synced"] and not watch["error"] for watch in group)
            self._metrics.observe_source(f"cluster:{name}", ready=up, age_seconds=max(ages, default=None))
        self._metrics.observe_source("state", ready=state)
        refused = self._policies.refused
        self._metrics.observe_source("policies", ready=not refused)
        return ready, {
            "ready": ready,
            "policies": self._policies.current.digest,
            "policies_refused": refused,  # why the files there now are not in force; "" when they are
            "state": {"answers": state},
            "watches": watches,
        }

    async def _answers(self) -> bool:
        try:
            self._metrics.observe_unreviewed(len(await self._proposals.unreviewed()))
            self._metrics.observe_stuck(len(await self._proposals.stuck()))
        except Unavailable:
            return False
        return True


def _watch(status: ReflectorStatus, now: float) -> dict[str, Any]:
    age = None if status.heard_at is None else round(now - status.heard_at, 1)
    return {
        "cluster": status.cluster,
        "kind": status.plural,
        "namespace": status.namespace,
        "synced": status.synced or status.absent,
        "absent": status.absent,
        "age_seconds": age,
        "error": status.error,
    }


def _by_cluster(watches: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for watch in watches:
        grouped.setdefault(str(watch["cluster"]), []).append(watch)
    return grouped
