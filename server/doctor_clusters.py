"""What the doctor asks of the clusters: whether they answer, and what the credentials there may do and must not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from itertools import product
from typing import Any, cast

import orjson
from aiohttp import ClientResponse
from kubernetes.aio.client import ApiClient

from ..policies.errors import BadConfiguration
from ..tools.kubernetes.source import FAULTS, READ_TIMEOUT, connect, fetch
from .doctor_findings import Finding, Process, bad, good, judge_clock, poor
from .settings import ClusterSettings, Settings

_ARGO, _REVIEWS = "argoproj.io", "authorization.k8s.io/v1"
_READS = (("list", _ARGO, "applications"), ("watch", _ARGO, "applications"), ("get", "apps", "deployments"))
_PATCHES = (("patch", _ARGO, "applications"), ("patch", "apps", "deployments"))
_WRITES = (
    *product(("create", "update", "patch", "delete"), (_ARGO,), ("applications", "appprojects", "rollouts")),
    *product(("create", "update", "patch", "delete"), ("apps",), ("deployments", "statefulsets", "daemonsets")),
    ("create", "", "pods"),
    ("create", "", "pods/exec"),
    ("get", "", "secrets"),
    ("impersonate", "", "users"),
    ("patch", "apps", "deployments/scale"),
    ("patch", "", "namespaces"),
)
"""What nothing but the applier must be able to do: change anything, or see and become what it has no business with."""
_BEYOND = (
    ("create", "", "pods/exec"),
    ("delete", _ARGO, "applications"),
    ("delete", "apps", "deployments"),
    ("get", "", "secrets"),
    ("impersonate", "", "users"),
)
"""What the applier needs for nothing."""
_READING = frozenset({"get", "list", "watch"})
_ASKING = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
"""The groups whose objects are questions: who may create one changes nothing."""
_MOST_NAMESPACES, _SHOWN = 50, 4

Right = tuple[str, str, str]
"""A verb, an API group and a resource."""


class _NoAnswer(Exception):
    """The cluster answers, and does not say what its credentials may do."""


async def examine_clusters(settings: Settings, process: Process) -> AsyncIterator[Finding]:
    """Each cluster with the credentials that the process uses."""
    applies = process is Process.APPLIER
    for each in (applies and settings.applier.clusters) or settings.clusters:
        what = f"cluster {each.name}"
        try:
            client = await connect(each.name, each.kubeconfig, each.context)
        except BadConfiguration as error:
            yield bad(what, error.message, error.hint or "see clusters in the settings")
            continue
        try:
            async for finding in _examine_cluster(what, client, each, process):
                yield finding
        except _NoAnswer as error:
            yield bad(
                f"{what} credentials", f"can't be judged: {error}", "let them ask about themselves (system:basic-user)"
            )
        except FAULTS as error:
            yield bad(what, f"does not answer: {type(error).__name__}", "see its kubeconfig, and that it runs")
        finally:
            await client.close()  # type: ignore[no-untyped-call]  # untyped there


async def _examine_cluster(
    what: str, client: ApiClient, settings: ClusterSettings, process: Process
) -> AsyncIterator[Finding]:
    async with await fetch(client, "/version") as answer:
        if answer.status != 200:
            yield bad(what, f"answers with HTTP {answer.status}", "see the credentials in its kubeconfig")
            return
        yield good(what, f"Kubernetes {orjson.loads(await answer.read())['gitVersion']}")
        yield judge_clock(f"{what} clock", _read_skew(answer))
    namespace = settings.namespaces[0] if settings.namespaces else ""
    applies = process is Process.APPLIER
    needed = (*_READS, *_PATCHES) if applies else _READS
    lacking = [right for right in needed if right not in await _may(client, needed, namespace)]
    if lacking:
        yield bad(f"{what} credentials", f"may not {_tell(lacking)}", "apply deploy/kubernetes/rbac.yaml")
    if not applies:
        async for finding in _examine_reader(what, client, settings, process):
            yield finding
    elif beyond := await _may(client, _BEYOND, ""):
        yield poor(f"{what} credentials", f"may {_tell(beyond)}, which the applier needs for nothing", "take that away")
    elif not lacking:
        yield good(f"{what} credentials", "may patch what changes patch, and no more")


async def _examine_reader(
    what: str, client: ApiClient, settings: ClusterSettings, process: Process
) -> AsyncIterator[Finding]:
    """By its answers about each right, and by the rules of each namespace, where a right may be given in one alone."""
    writes = list(await _may(client, _WRITES, ""))
    names = settings.namespaces or await _list_namespaces(client)
    for name in names[:_MOST_NAMESPACES]:
        writes += [right for right in await _read_rules(client, name) if right not in writes]
    if writes:
        told = f"may {_tell(writes)}: what steals {process} has that too"
        yield bad(f"{what} credentials", told, "give it an account of its own (deploy/kubernetes/rbac.yaml)")
    else:
        looked = f"{min(len(names), _MOST_NAMESPACES)} of {len(names)} namespaces"
        yield good(f"{what} credentials", f"can only read, by their rules in {looked}")


async def _may(client: ApiClient, rights: Iterable[Right], namespace: str) -> Sequence[Right]:
    """Those of the rights that the credentials have (SelfSubjectAccessReview)."""
    asked = list(rights)
    answers = await asyncio.gather(*(_ask_right(client, right, namespace) for right in asked))
    return [right for right, allowed in zip(asked, answers, strict=True) if allowed]


async def _ask_right(client: ApiClient, right: Right, namespace: str) -> bool:
    verb, group, resource = right
    name, _, subresource = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": namespace}
    status = await _review(client, "SelfSubjectAccessReview", {"resourceAttributes": asked})
    return bool(status.get("allowed"))


async def _read_rules(client: ApiClient, namespace: str) -> Sequence[Right]:
    """The rights beyond reading that the rules of one namespace give (SelfSubjectRulesReview)."""
    status = await _review(client, "SelfSubjectRulesReview", {"namespace": namespace})
    return list(_find_writes(cast("Sequence[Mapping[str, Any]]", status.get("resourceRules") or ()), namespace))


def _find_writes(rules: Sequence[Mapping[str, Any]], namespace: str) -> Iterator[Right]:
    for rule in rules:
        for group, verb, resource in product(rule.get("apiGroups") or (), rule["verbs"], rule.get("resources") or ()):
            if verb not in _READING and group not in _ASKING:
                yield verb, group, f"{resource} in {namespace}"


async def _list_namespaces(client: ApiClient) -> Sequence[str]:
    async with await fetch(client, "/api/v1/namespaces", [("limit", "500")]) as answer:
        body = orjson.loads(await answer.read())
    return [each["metadata"]["name"] for each in body.get("items", ())]


async def _review(client: ApiClient, kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the API server says of our own rights. It keeps nothing of the question."""
    method, url, headers, body, _form = await client.param_serialize(
        "POST",
        f"/apis/{_REVIEWS}/{kind.lower()}s",
        header_params={"Accept": "application/json", "Content-Type": "application/json"},
        body={"apiVersion": _REVIEWS, "kind": kind, "spec": spec},
        auth_settings=["BearerToken"],
    )
    sent = await client.call_api(method, url, headers, body, _request_timeout=READ_TIMEOUT)
    async with cast("ClientResponse", sent.response) as answer:
        if answer.status != 201:
            raise _NoAnswer(f"a {kind} is answered with HTTP {answer.status}")
        return cast("Mapping[str, Any]", orjson.loads(await answer.read())["status"])


def _read_skew(answer: ClientResponse) -> float:
    """Seconds that the server's clock is ahead; it tells whole seconds."""
    told = answer.headers.get("Date", "")
    return parsedate_to_datetime(told).timestamp() + 0.5 - time.time() if told else 0.0


def _tell(rights: Sequence[Right]) -> str:
    shown = [f"{verb} {resource}{f' ({group})' if group else ''}" for verb, group, resource in rights[:_SHOWN]]
    more = len(rights) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
