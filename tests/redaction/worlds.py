"""Worlds with marked places: what the cluster and Redis hold, in which each mark can be a secret.

A mark `⟦form:name⟧` stands where something can be planted. All marks are found by looking through the templates, so a
place that is added here is planted, visited and searched for by that alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from arborgate.server.demo.store import (
    APP_PROJECT,
    APPLICATION,
    APPLICATION_SET,
    DEPLOYMENT,
    EVENT,
    ROLLOUT,
    Kind,
    write_time,
)
from tests.redaction.planting import Form, Planted

MARK = re.compile(r"⟦(\w+):([^⟧]+)⟧")
HELM_VALUES = "image:\n  tag: v2\nauth:\n  password: ⟦named:application.helm.values⟧\n"

SOURCE: Mapping[str, Any] = {
    "repoURL": "⟦line:application.source.repo⟧",
    "path": "overlays/⟦line:application.source.path⟧",
    "targetRevision": "⟦word:application.source.revision⟧",
    "helm": {
        "parameters": [
            {"name": "api.token", "value": "⟦named:application.helm.parameter⟧"},
            {"name": "note", "value": "⟦text:application.helm.text⟧"},
            {"name": "⟦word:application.helm.name⟧", "value": "on"},
        ],
        "values": HELM_VALUES,
        "valuesObject": {"db": {"password": "⟦named:application.helm.object⟧"}},
    },
    "kustomize": {"images": ["registry.example.com/orders:⟦word:application.kustomize.image⟧"]},
    "plugin": {"name": "vault", "env": [{"name": "VAULT_TOKEN", "value": "⟦named:application.plugin.env⟧"}]},
}

ORDERS: Mapping[str, Any] = {
    "metadata": {
        "labels": {
            "env": "dev",
            "note": "⟦word:application.label⟧",
            "api-token": "⟦named:application.label.named⟧",
            "⟦word:application.label.key⟧": "x",
        },
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": '{"spec": {"env": [{"name": "DB_PASSWORD", '
            '"value": "⟦named:application.last_applied⟧"}]}}',
            "arborgate.dev/redis": "main:orders:,away:orders:",
            "arborgate.dev/routes": "⟦line:application.routes⟧",
            "arborgate.dev/entity": "⟦line:application.entity⟧",
            "arborgate.dev/documents": "https://docs.example.com/?⟦line:application.documents⟧",
            "note": "⟦text:application.annotation⟧",
        },
    },
    "spec": {
        "project": "⟦line:application.project⟧",
        "source": SOURCE,
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "orders"},
        "syncPolicy": {},
    },
    "status": {
        "health": {"status": "Degraded", "message": "⟦text:application.health⟧"},
        "sync": {"status": "OutOfSync", "revision": "⟦word:application.sync.revision⟧"},
        "operationState": {
            "phase": "Failed",
            "message": "⟦text:application.operation⟧",
            "finishedAt": "2026-11-20T10:00:00Z",
        },
        "conditions": [
            {
                "type": "ComparisonError",
                "message": "⟦text:application.condition⟧",
                "lastTransitionTime": "⟦line:application.condition.at⟧",
            },
            {"type": "⟦line:application.condition.type⟧", "message": "x"},
        ],
        "history": [
            {
                "id": 1,
                "revision": "⟦word:application.history.revision⟧",
                "deployedAt": "2026-11-20T09:00:00Z",
                "initiatedBy": {"username": "⟦line:application.history.by⟧"},
                "source": {"repoURL": "https://git.example.com/shop.git", "path": "orders", "targetRevision": "v1"},
            },
            {"id": 2, "revision": "a" * 40, "deployedAt": "2026-11-20T09:30:00Z"},
        ],
        "summary": {"images": ["registry.example.com/orders:⟦word:application.image⟧"]},
        "sourceType": "⟦line:application.source_type⟧",
        "resources": [
            {
                "group": "apps",
                "version": "v1",
                "kind": "Deployment",
                "namespace": "orders",
                "name": "orders",
                "status": "Synced",
                "health": {"status": "Degraded", "message": "⟦text:application.resource⟧"},
            },
            {
                "group": "argoproj.io",
                "version": "v1alpha1",
                "kind": "Rollout",
                "namespace": "orders",
                "name": "orders-web",
                "status": "OutOfSync",
            },
            {
                "version": "v1",
                "kind": "⟦word:application.resource.kind⟧",
                "namespace": "orders",
                "name": "⟦word:application.resource.name⟧",
                "status": "OutOfSync",
            },
        ],
    },
}

POD: Mapping[str, Any] = {
    "metadata": {"annotations": {"vault.example.com/token": "⟦named:workload.annotation⟧"}},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "registry.example.com/orders:⟦word:workload.image⟧",
                "args": ["--password=⟦named:workload.args⟧"],
                "env": [
                    {"name": "DB_PASSWORD", "value": "⟦named:workload.env⟧"},
                    {"name": "CONFIG", "value": "⟦text:workload.env.text⟧"},
                ],
            }
        ]
    },
}

MANIFESTS: tuple[tuple[Kind, str, str, Mapping[str, Any]], ...] = (
    (
        APPLICATION,
        "argocd",
        "estate",
        {
            "metadata": {"labels": {"env": "dev"}},
            "spec": {
                "project": "default",
                "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
            },
            "status": {
                "health": {"status": "Healthy"},
                "sync": {"status": "Synced"},
                "resources": [
                    {
                        "group": "argoproj.io",
                        "version": "v1alpha1",
                        "kind": "Application",
                        "namespace": "argocd",
                        "name": name,
                        "status": "Synced",
                    }
                    for name in ("orders", "odd")
                ],
            },
        },
    ),
    (APPLICATION, "argocd", "orders", ORDERS),
    (
        APPLICATION,  # whose every change the cluster refuses, quoting the whole object
        "argocd",
        "odd",
        {
            "metadata": {"labels": {"env": "dev"}, "annotations": {"note": "⟦text:refusal.annotation⟧"}},
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": "https://git.example.com/shop.git",
                    "path": "odd",
                    "targetRevision": "v1",
                    "helm": {"parameters": [{"name": "db.password", "value": "⟦named:refusal.parameter⟧"}]},
                },
                "destination": {"server": "https://kubernetes.default.svc", "namespace": "odd"},
                "⟦word:refusal.field⟧": "x",
            },
            "status": {
                "health": {"status": "Healthy"},
                "sync": {"status": "Synced", "revision": "b" * 40},
                "history": [
                    {
                        "id": 1,
                        "revision": "⟦word:refusal.revision⟧",
                        "deployedAt": "2026-11-20T09:00:00Z",
                        "source": {
                            "repoURL": "https://git.example.com/shop.git",
                            "path": "odd",
                            "targetRevision": "⟦word:refusal.history⟧",
                        },
                    }
                ],
            },
        },
    ),
    (
        APPLICATION,  # held in a state by what an image parameter of its says
        "argocd",
        "images",
        {
            "metadata": {"labels": {"env": "dev"}},
            "spec": {
                "project": "default",
                "source": {
                    "repoURL": "https://git.example.com/shop.git",
                    "path": "images",
                    "targetRevision": "⟦word:change.revision.before⟧",
                    "helm": {
                        "parameters": [
                            {"name": "image.tag", "value": "⟦word:change.parameter.before⟧"},
                            {"name": "redis.password", "value": "⟦named:change.parameter.beside⟧"},
                        ]
                    },
                },
                "destination": {"server": "https://kubernetes.default.svc", "namespace": "images"},
            },
            "status": {
                "health": {"status": "Healthy"},
                "sync": {"status": "Synced", "revision": "c" * 40},
                "summary": {"images": ["registry.example.com/images:v1"]},
            },
        },
    ),
    (
        APPLICATION_SET,
        "argocd",
        "orders-set",
        {
            "spec": {"strategy": {"type": "AllAtOnce"}},
            "status": {
                "conditions": [{"type": "ErrorOccurred", "status": "True", "message": "⟦text:application_set.error⟧"}]
            },
        },
    ),
    (APP_PROJECT, "argocd", "default", {"spec": {"description": "⟦text:project.description⟧"}}),
    (
        DEPLOYMENT,
        "orders",
        "orders",
        {
            "spec": {"replicas": 2, "template": POD},
            "status": {
                "conditions": [
                    {
                        "type": "Progressing",
                        "status": "False",
                        "reason": "⟦word:workload.reason⟧",
                        "message": "⟦text:workload.condition⟧",
                    }
                ]
            },
        },
    ),
    (
        ROLLOUT,
        "orders",
        "orders-web",
        {
            "spec": {"replicas": 1, "template": {"spec": {"containers": []}}},
            "status": {
                "conditions": [{"type": "InvalidSpec", "status": "True", "message": "⟦text:rollout.condition⟧"}]
            },
        },
    ),
    (
        EVENT,
        "orders",
        "orders.1",
        {
            "involvedObject": {"kind": "Deployment", "namespace": "orders", "name": "orders"},
            "type": "Warning",
            "reason": "⟦line:event.reason⟧",
            "message": "⟦text:event.message⟧",
            "lastTimestamp": write_time(datetime.now(UTC)),
        },
    ),
)
"""Kind, namespace, name and the rest of each object."""

WINDOW = "orders:window"
WINDOW_AT = 1_000
"""Where in the long string its secret begins."""

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("SET", "orders:text", "⟦text:redis.string⟧"),
    ("SET", "orders:api_token", "⟦named:redis.string.named⟧"),
    ("SET", "orders:session:⟦word:redis.key⟧", "x"),
    ("SET", "orders:\udcff⟦word:redis.key.binary⟧", "x"),
    ("SET", "orders:binary", "⟦word:redis.binary⟧\udcff\udcfe"),
    ("SET", WINDOW, "." * WINDOW_AT + "⟦word:redis.window⟧" + "." * 4_000),
    (
        "HSET",
        "orders:hash",
        "password",
        "⟦named:redis.hash.named⟧",
        "note",
        "⟦text:redis.hash⟧",
        "⟦line:redis.hash.field⟧",
        "x",
    ),
    ("RPUSH", "orders:list", "first", "⟦text:redis.list⟧"),
    ("SADD", "orders:set", "⟦text:redis.set⟧"),
    ("ZADD", "orders:zset", "1", "⟦text:redis.sorted_set⟧"),
    (
        "XADD",
        "orders:stream",
        "*",
        "token",
        "⟦named:redis.stream.named⟧",
        "note",
        "⟦text:redis.stream⟧",
        "⟦line:redis.stream.field⟧",
        "x",
    ),
    ("XGROUP", "CREATE", "orders:stream", "⟦line:redis.group⟧", "0"),
)
"""What is in the Redis that agents read, as the commands that put it there; a surrogate is a byte that is no text."""

WARNINGS = ("⟦line:rehearsal.warning⟧", "password: ⟦named:rehearsal.warning.named⟧")
"""What the cluster's admission says to every dry run."""

AWAY = "redis://app:⟦named:settings.redis_url⟧@127.0.0.1:1/0"
"""A Redis that is not there, with its password in its URL."""


def list_places(*templates: Any) -> dict[str, Form]:
    """The marked places of the templates and what each can hold."""
    found: dict[str, Form] = {}

    def look(text: str) -> str:
        found.update({name: Form(form) for form, name in MARK.findall(text)})
        return text

    for template in templates:
        walk(template, look)
    return found


def fill(template: Any, planted: Mapping[str, Planted], write: Callable[[str], str] = str) -> Any:
    """The template with what is planted in the places of its marks, each text written as `write` does."""
    return walk(template, lambda text: MARK.sub(lambda mark: write(planted[mark[2]].text), text))


def walk(value: Any, change: Callable[[str], str]) -> Any:
    """Plain data with every text in it, also the keys, changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): walk(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [walk(inner, change) for inner in value]
    return value
