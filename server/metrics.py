"""Counters for Prometheus: calls by tool and outcome, refused tokens, freshness, what is in flight."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process, in a registry of their own; labels come from closed vocabularies only."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self._calls = Counter("arborgate_calls", "Calls by tool and outcome", ("tool", "outcome"), registry=own)
        self._seconds = Histogram(
            "arborgate_call_seconds", "Time in the gate", ("tool",), buckets=_BUCKETS, registry=own
        )
        # Both vocabularies are closed and small: each pair is looked up in the library once.
        self._count, self._time = cache(self._calls.labels), cache(self._seconds.labels)
        self._refused = Counter("arborgate_tokens_refused", "Refused tokens by flaw", ("flaw",), registry=own)
        self._age = Gauge("arborgate_source_age_seconds", "Age of what a source said last", ("source",), registry=own)
        self._up = Gauge("arborgate_source_ready", "1 when a source answers", ("source",), registry=own)
        self._broken = Counter("arborgate_glass_broken", "Glass that was broken here", registry=own)
        self._unreviewed = Gauge("arborgate_glass_unreviewed", "Broken glass that nobody has reviewed", registry=own)
        self._stuck = Gauge("arborgate_proposals_stuck", "Proposals that wait for a person's release", registry=own)
        self._told = Counter(
            "arborgate_notifications", "Notifications by medium and outcome", ("medium", "outcome"), registry=own
        )
        self.in_flight = Gauge("arborgate_requests_in_flight", "Requests being served", registry=own)

    def observe_call(self, tool: str, outcome: str, took_us: int) -> None:
        """One call that ended; an unknown tool's name is not a label."""
        self._count(tool or "unknown", outcome).inc()
        self._time(tool or "unknown").observe(took_us / 1e6)

    def observe_refusal(self, flaw: str) -> None:
        self._refused.labels(flaw).inc()

    def observe_source(self, source: str, *, ready: bool, age_seconds: float | None = None) -> None:
        self._up.labels(source).set(1 if ready else 0)
        if age_seconds is not None:
            self._age.labels(source).set(age_seconds)

    def count_broken_glass(self) -> None:
        self._broken.inc()

    def observe_unreviewed(self, count: int) -> None:
        self._unreviewed.set(count)

    def observe_stuck(self, count: int) -> None:
        self._stuck.set(count)

    def count_notification(self, medium: str, outcome: str) -> None:
        """One attempt: sent, failed (another follows) or given_up."""
        self._told.labels(medium, outcome).inc()

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self.registry)
