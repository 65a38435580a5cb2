"""A shop whose apps are written in a repository: a parent that self-heals, a child's manifest, a file of values."""

from pathlib import Path
from typing import Any

from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.git.settings import GitDelivery, GitRepository, GitSettings, GitValues, GitWriting
from arborgate.tools.tree import AppId, AppTree, Node
from tests.parts.git import READER, WRITER, GitServer
from tests.tools.rollouts.applications import (
    CLUSTER,
    ENVIRONMENTS,
    SELF_HEAL,
    make_application,
    make_managed,
)

API = """\
# The API of the shop. Ask #shop before you touch it.
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: api
  namespace: argocd
  labels: {env: staging}    # not production
spec:
  project: default
  syncPolicy: { automated: {} }
  destination:
    server: https://kubernetes.default.svc
    namespace: shop
  source:
    repoURL: https://git.example.org/shop.git
    path: api
    targetRevision: main    # follows the branch
    kustomize:
      images:
      # pinned by hand
      - api=registry.example.org/shop/api:1.4.2
      - "registry.example.org/shop/proxy:2.0.0"
"""
VALUES = """\
# Values of the API.
replicaCount: 2   # two are enough
image:
  repository: registry.example.org/shop/api
  tag: "1.4.2"
password: not-a-real-one-but-looks-so
"""
FILES = {"apps/api.yaml": API, "apps/notes.txt": "nothing", "values/api.yaml": VALUES, "README.md": "The shop."}
NAME = "shop"


def keep_password(folder: Path, who: tuple[str, str]) -> Path:
    file = folder / f"{who[0]}.password"
    file.write_text(f"{who[1]}\n")
    return file


def make_settings(server: GitServer, folder: Path, *, values: str = "", **more: Any) -> GitSettings:
    """`values` is the app whose values are in the repository."""
    replicas = {f"Deployment/{values}": "replicaCount"}
    mapped = GitValues(repository=NAME, file="values/api.yaml", image="image.tag", replicas=replicas)
    entry = GitRepository(
        name=NAME, url=f"{server.url}/shop.git", username=READER[0], password_file=keep_password(folder, READER)
    )
    return GitSettings(
        repositories=more.pop("repositories", (entry,)), values={values: mapped} if values else {}, **more
    )


def make_writing(folder: Path, **more: Any) -> GitWriting:
    signing = {"signing_key_file": more.pop("signing_key_file", None)}
    delivery = GitDelivery(name=NAME, username=WRITER[0], password_file=keep_password(folder, WRITER), **more)
    return GitWriting(repositories=(delivery,), author_email="arborgate@example.org", **signing)


def make_family(
    name: str,
    source: dict[str, Any],
    *,
    policy: dict[str, Any] | None = None,
    source_type: str = "Directory",
    **child: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A parent that takes its children from this source, self-healing unless told otherwise, and its child `name`."""
    parent = make_application(
        "shop",
        source=source,
        policy=policy or SELF_HEAL,
        status={
            "sourceType": source_type,
            "resources": [make_managed("Application", name, group="argoproj.io", version="v1alpha1")],
        },
    )
    made = make_application(name, policy={"automated": {}}, **child)
    made["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = f"shop:argoproj.io/Application:argocd/{name}"
    return parent, made


def make_shop(url: str, *, path: str = "apps", revision: str = "main", **more: Any) -> AppTree:
    """The tree of a parent that takes its children from the repository, and of its child `api`."""
    source = {"repoURL": url, "path": path, "targetRevision": revision, **more.pop("source", {})}
    family = make_family("api", source, source_type=more.pop("source_type", "Directory"), **more)
    tree, parser = AppTree(ENVIRONMENTS), AppParser(CLUSTER, ENVIRONMENTS, {})
    tree.replace(CLUSTER, [parser.parse(raw) for raw in family])
    return tree


def api_node(tree: AppTree) -> Node:
    node = tree.get(AppId(CLUSTER, "argocd", "api"))
    assert node is not None
    return node
