"""A real Kubernetes API server with RBAC on, Argo's CRDs, and an identity for each of Arborgate's processes.

There is no kubelet and no controller: pods stay pending, nobody garbage-collects, and tests write the statuses.
"""

import json
import secrets
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from .certificates import CertificateAuthority, write_key, write_public_key
from .install import find_crds, find_kube_apiserver, find_program
from .process import Process, find_free_ports, wait_until

RBAC_FILE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "rbac.yaml"
HOME_NAMESPACE = "arborgate"
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

Json = dict[str, Any]


class Identity(StrEnum):
    """Who asks: the tests themselves, or one of the ServiceAccounts of deploy/kubernetes/rbac.yaml."""

    ADMIN = "admin"
    APPLIER = "applier"
    SERVE = "serve"


class KubeApi:
    """etcd and kube-apiserver on loopback ports. What was stored outlives `stop`: `start` finds it again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._etcd_port, peer_port, self._port = find_free_ports(3)
        self.url = f"https://127.0.0.1:{self._port}"
        authority = CertificateAuthority(folder)
        self.ca_file = authority.file
        self._tokens: dict[Identity, str] = {Identity.ADMIN: secrets.token_hex(16)}
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}
        self._etcd_argv = _describe_etcd(folder, self._etcd_port, peer_port)
        self._api_argv = _describe_apiserver(
            folder, self._port, self._etcd_port, authority, self._tokens[Identity.ADMIN]
        )
        self._client = httpx2.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=self.ca_file),
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),  # the server may have restarted in between
        )
        self._etcd: Process | None = None
        self._api: Process | None = None

    @property
    def store_url(self) -> str:
        """Where etcd answers, to whoever wants to see what was written past the API server."""
        return f"http://127.0.0.1:{self._etcd_port}"

    def token(self, identity: Identity) -> str:
        """A bearer token; those of `serve` and `applier` are their ServiceAccounts' own, good for a day."""
        if identity not in self._tokens:
            path = f"/api/v1/namespaces/{HOME_NAMESPACE}/serviceaccounts/arborgate-{identity}/token"
            asked = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": 86400},
            }
            self._tokens[identity] = self.call("POST", path, asked)["status"]["token"]
        return self._tokens[identity]

    def kubeconfig(self, identity: Identity) -> Path:
        """A kubeconfig file whose current context, `sandbox`, is this server as this identity."""
        file = self._folder / f"{identity}.kubeconfig"
        if not file.exists():
            file.touch(mode=0o600)
            cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "sandbox", "cluster": cluster}],
                "users": [{"name": str(identity), "user": {"token": self.token(identity)}}],
                "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": str(identity)}}],
                "current-context": "sandbox",
            }
            file.write_text(yaml.safe_dump(config))
        return file

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        identity: Identity = Identity.ADMIN,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> httpx2.Response:
        """One request as one identity, whatever its answer is; `timeout` in seconds."""
        return self._client.request(
            method,
            path,
            content=None if body is None else json.dumps(body),
            params=params,
            timeout=timeout,
            headers={
                "Authorization": f"Bearer {self.token(identity)}",
                "Content-Type": content_type,
                **(headers or {}),
            },
        )

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """One request as `admin`, answered with JSON; raises httpx2.HTTPStatusError when it is refused."""
        answer = self.request(method, path, body, content_type=content_type, params=params)
        if answer.is_error:
            raise httpx2.HTTPStatusError(answer.text, request=answer.request, response=answer)
        got: Json = answer.json()
        return got

    def apply(self, manifest: Mapping[str, Any], *, subresource: str = "") -> Json:
        """Creates or changes one object of any kind, server-side, as `admin`; `subresource="status"` for its status."""
        path = self.find_path(manifest)
        owner = {"fieldManager": "tests", "force": "true"}
        return self.call(
            "PATCH",
            f"{path}/{subresource}" if subresource else path,
            manifest,
            content_type=APPLY,
            params=owner,
        )

    def find_path(self, manifest: Mapping[str, Any]) -> str:
        """The URL path of the object that this manifest describes."""
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        if (version, kind) not in self._plurals:
            for known in self.call("GET", root)["resources"]:
                if "/" not in known["name"]:
                    self._plurals[version, known["kind"]] = known["name"], known["namespaced"]
        plural, namespaced = self._plurals[version, kind]
        metadata = manifest["metadata"]
        place = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{root}{place}/{plural}/{metadata['name']}"

    @contextmanager
    def fresh_namespace(self) -> Iterator[str]:
        """A new namespace; it and all that was put into it are gone afterwards."""
        name = f"test-{secrets.token_hex(4)}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield name
        finally:
            self._empty(name)

    def forget_history(self) -> None:
        """Compacts etcd: from now on a watch from an older resource version is answered with 410."""
        etcd = httpx2.Client(base_url=f"http://127.0.0.1:{self._etcd_port}", trust_env=False)
        with etcd:
            status = etcd.post("/v3/kv/range", json={"key": "AA==", "count_only": True}).raise_for_status()
            revision = status.json()["header"]["revision"]
            etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True}).raise_for_status()

    def start(self) -> None:
        """Starts etcd and the API server, or starts them again; returns when the server says it is ready."""
        if self._etcd is None or not self._etcd.running:
            self._etcd = Process("etcd", self._etcd_argv, self._folder)
        if self._api is None or not self._api.running:
            self._api = Process("kube-apiserver", self._api_argv, self._folder)
            self._api.wait_ready(self._answers, seconds=60)

    def stop(self) -> None:
        """Ends the API server (not etcd): connections break, and nothing listens."""
        if self._api is not None:
            self._api.kill()

    def pause(self) -> None:
        """Connections to the API server stay open and nothing answers, until `resume`."""
        if self._api is not None:
            self._api.pause()

    def resume(self) -> None:
        if self._api is not None:
            self._api.resume()

    def recover(self) -> None:
        """Ends every fault above."""
        if self._api is not None and self._api.running:
            self._api.resume()
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
            crds = [yaml.safe_load(file.read_text()) for file in find_crds()]
            for manifest in (*crds, *yaml.safe_load_all(RBAC_FILE.read_text())):
                self.apply(manifest)
            for crd in crds:
                wait_until(partial(self._is_served, crd), "a CRD is served")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        for process in (self._api, self._etcd):
            if process is not None:
                process.kill()

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/readyz").is_success
        except httpx2.TransportError:
            return False

    def _is_served(self, crd: Json) -> bool:
        """Established, and its storage is there: the first requests make the server set it up, and are turned away."""
        conditions = self.call("GET", self.find_path(crd)).get("status", {}).get("conditions") or ()
        if not any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            return False
        spec = crd["spec"]
        collection = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        return self.request("GET", collection).is_success

    def _empty(self, namespace: str) -> None:
        for root in ("/api/v1", "/apis/apps/v1", "/apis/argoproj.io/v1alpha1"):
            for known in self.call("GET", root)["resources"]:
                if known["namespaced"] and "deletecollection" in known["verbs"]:
                    self._delete_all(f"{root}/namespaces/{namespace}/{known['name']}")
        home = f"/api/v1/namespaces/{namespace}"
        self.call("DELETE", home)
        found = self.call("GET", home)  # no controller finishes the deletion, so it is finished here
        self.call("PUT", f"{home}/finalize", {**found, "spec": {"finalizers": []}})

    def _delete_all(self, collection: str) -> None:
        for item in self.call("GET", collection)["items"]:
            if item["metadata"].get("finalizers"):
                self.call(
                    "PATCH",
                    f"{collection}/{item['metadata']['name']}",
                    {"metadata": {"finalizers": None}},
                    content_type=MERGE_PATCH,
                )
        self.call("DELETE", collection, params={"gracePeriodSeconds": "0", "propagationPolicy": "Background"})


def _describe_etcd(folder: Path, port: int, peer_port: int) -> tuple[str | Path, ...]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    return (
        find_program("etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    )


def _describe_apiserver(
    folder: Path, port: int, etcd_port: int, authority: CertificateAuthority, admin_token: str
) -> tuple[str | Path, ...]:
    certificate, key = authority.issue("kube-apiserver")
    signing_key = ec.generate_private_key(ec.SECP256R1())
    private = write_key(folder / "service-accounts-key.pem", signing_key)
    public = write_public_key(folder / "service-accounts.pem", signing_key.public_key())
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{admin_token},admin,admin,"system:masters"\n')
    return (
        find_kube_apiserver(),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--endpoint-reconciler-type=none",  # it would publish the loopback address, which the server refuses
        f"--cert-dir={folder}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={private}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",  # pods would wait for accounts that a controller makes
    )
