"""The clusters that are read: connecting to one, and getting one object at a time as plain JSON."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import orjson
import yaml
from aiohttp import ClientError, ClientResponse, ClientTimeout
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from ...policies.errors import BadConfiguration, Refused, Unavailable
from ..change import JsonObject, Target

READ_TIMEOUT = ClientTimeout(total=8.0, connect=3.0)
"""Under the deadline of a call, so that a slow cluster is named and not just late."""

FAULTS = (ClientError, TimeoutError, OSError, ValueError, ConfigException)
"""What reading from a cluster that is away, slow or talking nonsense can raise."""

PLURALS: Mapping[str, str] = {
    "AppProject": "appprojects",
    "Application": "applications",
    "ApplicationSet": "applicationsets",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "Event": "events",
    "Pod": "pods",
    "ReplicaSet": "replicasets",
    "Rollout": "rollouts",
    "StatefulSet": "statefulsets",
}
"""The kinds that are read, and what the API calls them in a path. A closed list, without Secrets and ConfigMaps."""

_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_SEGMENT = re.compile(_NAME)
_API = re.compile(rf"(?:{_NAME}/)?v[0-9][a-z0-9]{{0,31}}")


async def connect(name: str, kubeconfig: Path | None, context: str) -> ApiClient:
    """A client for one cluster: by its kubeconfig, else the pod's own account, else the current kube context.

    Nothing is sent yet. Tokens of a pod and of an exec plugin are renewed while the client lives. Raises
    `BadConfiguration`, naming the cluster, when there is no configuration that can be used.
    """
    configuration = Configuration()
    # Every watch keeps a connection: a limit here would let watches starve the reads.
    configuration.connection_pool_maxsize = 0
    try:
        if kubeconfig is None and not context and os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]  # untyped there
        else:
            await _load_kubeconfig(configuration, kubeconfig, context)
        client = ApiClient(configuration)
        client.user_agent = "arborgate"
        return client
    except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        raise BadConfiguration(
            f"The cluster {name!r} can't be connected to: {error}",
            field="clusters",
            hint="Set its kubeconfig and context in the settings, or run in a pod with a service account.",
        ) from error


async def _load_kubeconfig(configuration: Configuration, kubeconfig: Path | None, context: str) -> None:
    loader = await config.load_kube_config(  # type: ignore[no-untyped-call]  # untyped there
        config_file=str(kubeconfig) if kubeconfig else None,
        context=context or None,
        client_configuration=configuration,
        persist_config=False,
    )
    if hasattr(loader, "exec_plugin_expiry"):
        hook = _renew_by(loader.load_from_exec_plugin, loader)
        configuration.refresh_api_key_hook = hook  # type: ignore[assignment]  # typed as None there


def _renew_by(
    run_plugin: Callable[[], Awaitable[object]], loader: object
) -> Callable[[Configuration], Awaitable[None]]:
    """A hook that lets the exec plugin renew its token when it is about to expire, once for all requests waiting."""
    lock = asyncio.Lock()

    async def renew(configuration: Configuration) -> None:
        async with lock:
            await run_plugin()
            if token := getattr(loader, "token", ""):
                configuration.api_key["BearerToken"] = token

    return renew


async def fetch(
    client: ApiClient, path: str, query: Iterable[tuple[str, str]] = (), *, limit: ClientTimeout = READ_TIMEOUT
) -> ClientResponse:
    """One GET with the client's credentials, the body unread. The caller closes it. Raises one of `FAULTS`."""
    method, url, headers, _body, _form = await client.param_serialize(
        "GET",
        path,
        query_params=list(query),
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    answer = await client.call_api(method, url, header_params=headers, _request_timeout=limit)
    return cast("ClientResponse", answer.response)


def collection_path(api: str, plural: str, namespace: str = "") -> str:
    """The path of a kind's objects in one namespace, or in all when it is empty. `api` is the apiVersion."""
    root = "/api" if "/" not in api else "/apis"
    return f"{root}/{api}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{api}/{plural}"


def object_path(target: Target) -> str:
    """The path of the one object; raises `Refused` for a kind that is not read or a name that can't be one."""
    plural = PLURALS.get(target.kind)
    if plural is None:
        raise Refused(f"Objects of this kind are not read: {target.kind}.", field="kind")
    # Checked, not escaped: a name that is no name must not reach another path.
    if not (_API.fullmatch(target.api) and _SEGMENT.fullmatch(target.namespace) and _SEGMENT.fullmatch(target.name)):
        raise Refused("The target's apiVersion, namespace or name is not a valid one.", field="name")
    return f"{collection_path(target.api, plural, target.namespace)}/{target.name}"


class Clusters:
    """The connected clusters by name. Closing it closes their clients."""

    def __init__(self, clients: Mapping[str, ApiClient]) -> None:
        self._clients = dict(clients)

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._clients)

    def client(self, cluster: str) -> ApiClient:
        """The client of that cluster; raises `Unavailable` when none is configured by this name."""
        found = self._clients.get(cluster)
        if found is None:
            raise Unavailable(
                f"No cluster is configured by the name {cluster!r}.", hint=f"Configured: {', '.join(self._clients)}."
            )
        return found

    async def read(self, target: Target) -> JsonObject | None:
        """The live object as plain JSON, or None when it does not exist.

        Raises `Unavailable` (naming the cluster, never its address) when the cluster does not answer or does not let
        Arborgate read this, and `Refused` for a kind that is not read at all.
        """
        client, path = self.client(target.cluster), object_path(target)
        try:
            async with await fetch(client, path) as response:
                body = await response.read()
        except FAULTS as error:
            raise Unavailable(
                f"The cluster {target.cluster} does not answer.",
                hint="What the app tree holds is still readable; try again in a moment.",
                detail=type(error).__name__,
            ) from error
        if response.status == 404:
            return None
        if response.status in (401, 403):
            raise Unavailable(
                f"The cluster {target.cluster} does not let Arborgate read this {target.kind}.",
                hint="Ask the platform team to check the role that Arborgate reads with.",
                detail=f"HTTP {response.status}",
            )
        if response.status != 200:
            raise Unavailable(
                f"The cluster {target.cluster} could not answer.",
                hint="Try again in a moment.",
                detail=f"HTTP {response.status}",
            )
        return _parse_object(body, target.cluster)

    async def close(self) -> None:
        """Closes every client, whatever becomes of the others."""
        for client in self._clients.values():
            with suppress(*FAULTS):
                await client.close()  # type: ignore[no-untyped-call]  # untyped there


def _parse_object(body: bytes, cluster: str) -> JsonObject:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unavailable(f"The cluster {cluster} answered something else than JSON.", detail=str(error)) from error
    if not isinstance(parsed, dict):
        raise Unavailable(f"The cluster {cluster} answered something else than an object.")
    return parsed
