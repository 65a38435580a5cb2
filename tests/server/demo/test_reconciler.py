"""What happens in the sandbox cluster after a change: the same every time."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from arborgate.server.demo.manifests import choose_image
from arborgate.server.demo.reconciler import Pace, Reconciler
from arborgate.server.demo.store import APPLICATION, DEPLOYMENT, EVENT, KINDS, ROLLOUT, Kind, Store
from arborgate.server.demo.world import NAMESPACE, read_world
from arborgate.tools.app import App, Health, Sync
from arborgate.tools.argocd.parse import AppParser
from arborgate.tools.environments import EnvironmentRule, Environments
from arborgate.tools.findings import FindingKind
from arborgate.tools.tree import AppTree

Json = dict[str, Any]

ENVIRONMENTS = Environments(
    [EnvironmentRule(name=name, labels={"environment": name}) for name in ("dev", "staging", "production")]
)
BROKEN = ("payments-api-staging", "payments-worker")


class Sandbox:
    """The sample world at a time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.store = Store()
        self.settled: list[tuple[str, bool]] = []
        self.reconciler = Reconciler(
            read_world(),
            self.store,
            pace=Pace(notice=1, sync=1, rollout=1, warning=100),
            clock=lambda: self.now,
            settled=lambda app, runs: self.settled.append((app, runs)),
        )

    def get(self, name: str, kind: Kind = APPLICATION, namespace: str = NAMESPACE) -> Json:
        found = self.store.get(kind, namespace, name)
        assert found is not None, name
        return dict(found)

    def patch(self, name: str, patch: Json, kind: Kind = APPLICATION, namespace: str = NAMESPACE) -> None:
        self.store.patch(kind, namespace, name, patch)

    def sync(self, name: str, **sync: object) -> None:
        self.patch(name, {"operation": {"initiatedBy": {"username": "arborgate"}, "sync": sync}})
        self.pass_time(1)

    def pass_time(self, seconds: float) -> None:
        """Lets the time pass in steps as small as the reconciler asks for."""
        ends = self.now + seconds
        while (due := self.reconciler.step(self.now)) <= ends:
            self.now = max(due, self.now + 0.001)
        self.now = ends
        self.reconciler.step(self.now)

    def app(self, name: str) -> App:
        return AppParser("sandbox", ENVIRONMENTS, {}).parse(self.get(name))

    def apps(self) -> dict[str, App]:
        return {one["metadata"]["name"]: self.app(one["metadata"]["name"]) for one in self.store.select(APPLICATION)}

    def warnings(self, app: str) -> list[Json]:
        return [dict(one) for one in self.store.select(EVENT) if one["involvedObject"]["name"].startswith(f"{app}-")]


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


def test_there_are_about_forty_apps_in_three_environments_and_two_are_broken(sandbox: Sandbox) -> None:
    apps = sandbox.apps()
    assert 35 <= len(apps) <= 45
    assert {app.environment for app in apps.values()} == {"dev", "staging", "production", "unassigned"}
    assert tuple(sorted(name for name, app in apps.items() if app.health is not Health.HEALTHY)) == BROKEN


def test_every_app_but_the_root_has_a_parent_and_the_traps_are_found(sandbox: Sandbox) -> None:
    tree = AppTree(ENVIRONMENTS)
    tree.replace("sandbox", sandbox.apps().values())
    assert [node.app.id.name for node in tree.roots()] == ["estate"]
    (staging,) = tree.named("payments-staging")
    assert staging.app.health is Health.HEALTHY
    found = {finding.kind for finding in staging.findings}
    assert {FindingKind.HEALTHY_PARENT_MISSING_CHILD, FindingKind.WAVES_ORDER_NOTHING} <= found


def test_the_world_is_at_rest_until_somebody_changes_it(sandbox: Sandbox) -> None:
    version = sandbox.store.version
    sandbox.pass_time(50)
    assert sandbox.store.version == version


def test_a_rollback_heals_the_broken_app_and_leaves_it_out_of_sync(sandbox: Sandbox) -> None:
    entry = sandbox.get("payments-worker")["status"]["history"][-2]

    sandbox.sync("payments-worker", revision=entry["revision"], source=entry["source"])

    app = sandbox.app("payments-worker")
    assert (app.operation_phase, app.health) == ("Succeeded", Health.PROGRESSING)
    assert sandbox.get("payments-worker", DEPLOYMENT, "payments")["status"]["readyReplicas"] == 0
    sandbox.pass_time(1)
    app = sandbox.app("payments-worker")
    assert (app.health, app.sync) == (Health.HEALTHY, Sync.OUT_OF_SYNC)
    assert app.images == ("registry.example.com/payments/worker:2.13.1",)
    assert (app.history[-1].revision, app.history[-1].by) == (entry["revision"], "arborgate")
    workload = sandbox.get("payments-worker", DEPLOYMENT, "payments")
    assert workload["status"]["readyReplicas"] == workload["spec"]["replicas"] == 3
    assert workload["status"]["observedGeneration"] == workload["metadata"]["generation"]
    assert sandbox.settled == [("payments-worker", True)]
    assert "operation" not in sandbox.get("payments-worker")


def test_a_sync_to_what_does_not_run_succeeds_and_degrades(sandbox: Sandbox) -> None:
    first = sandbox.get("payments-worker")["status"]["history"][-2]
    sandbox.sync("payments-worker", revision=first["revision"])
    sandbox.pass_time(1)
    before = sandbox.warnings("payments-worker")

    sandbox.sync("payments-worker")
    sandbox.pass_time(1)

    app = sandbox.app("payments-worker")
    assert (app.operation_phase, app.health, app.sync) == ("Succeeded", Health.DEGRADED, Sync.SYNCED)
    assert app.managed[0].message == 'Deployment "payments-worker" exceeded its progress deadline'
    (warning,) = sandbox.warnings("payments-worker")
    assert warning["count"] == before[0]["count"] + 1
    assert "PAYMENTS_LEDGER_SHARDS" in warning["message"]


@pytest.mark.parametrize("name", ["shop-cart", "payments"])
def test_a_sync_to_a_revision_that_git_does_not_have_fails_with_the_reason(sandbox: Sandbox, name: str) -> None:
    before = sandbox.app(name)
    sandbox.sync(name, revision="no-such-branch")
    app = sandbox.app(name)
    assert app.operation_phase == "Failed"
    assert "unable to resolve 'no-such-branch' to a commit SHA" in app.operation_message
    assert (app.history, app.images) == (before.history, before.images)


def test_an_operation_that_is_running_says_so(sandbox: Sandbox) -> None:
    sandbox.patch("shop-cart", {"operation": {"sync": {}}})
    sandbox.reconciler.step(sandbox.now)
    assert sandbox.app("shop-cart").operation_phase == "Running"


def test_an_image_of_an_app_that_syncs_by_hand_waits_for_the_sync(sandbox: Sandbox) -> None:
    image = "registry.example.com/shop/cart:2.4.0"
    sandbox.patch("shop-cart", {"spec": {"source": {"kustomize": {"images": [image]}}}})
    sandbox.pass_time(10)
    app = sandbox.app("shop-cart")
    assert (app.sync, app.images) == (Sync.OUT_OF_SYNC, ("registry.example.com/shop/cart:2.4.2",))
    sandbox.sync("shop-cart")
    sandbox.pass_time(1)
    app = sandbox.app("shop-cart")
    assert (app.sync, app.health, app.images) == (Sync.SYNCED, Health.HEALTHY, (image,))


def test_an_automated_app_goes_to_another_revision_by_itself_and_tries_a_bad_one_once(sandbox: Sandbox) -> None:
    # payments-api-staging's parent would undo this, so its Git is changed, too.
    source = {"kustomize": {"images": ["registry.example.com/shop/search:1.99.0"]}}
    course = sandbox.reconciler._courses["shop-search-staging"]  # Git is inside
    course.spec = {**course.spec, "source": {**course.spec["source"], **source}}
    sandbox.patch("shop-search-staging", {"spec": {"source": source}})
    sandbox.pass_time(3)
    app = sandbox.app("shop-search-staging")
    assert (app.sync, app.health, app.history[-1].by) == (Sync.SYNCED, Health.DEGRADED, "automated")
    assert "not found" in sandbox.warnings("shop-search-staging")[0]["message"]
    deploys = len(app.history)
    sandbox.pass_time(50)
    assert len(sandbox.app("shop-search-staging").history) == deploys


def test_a_parent_that_heals_itself_reverts_a_live_change_of_its_child(sandbox: Sandbox) -> None:
    spec = sandbox.get("payments-worker-staging")["spec"]
    sandbox.patch("payments-worker-staging", {"spec": {"source": {"targetRevision": "other"}}})
    sandbox.reconciler.step(sandbox.now)
    parent = sandbox.app("payments-staging")
    assert {one.name: one.sync for one in parent.managed}["payments-worker-staging"] == "OutOfSync"
    sandbox.pass_time(2)
    assert sandbox.get("payments-worker-staging")["spec"] == spec
    assert sandbox.app("payments-worker-staging").sync is Sync.SYNCED


def test_a_parent_that_does_not_heal_itself_only_says_that_its_child_differs(sandbox: Sandbox) -> None:
    sandbox.patch("payments-worker", {"spec": {"project": "other"}})
    sandbox.pass_time(50)
    assert sandbox.get("payments-worker")["spec"]["project"] == "other"
    assert sandbox.app("payments").sync is Sync.OUT_OF_SYNC


def test_a_generated_app_is_put_back_as_its_set_has_it(sandbox: Sandbox) -> None:
    spec = sandbox.get("edge-eu")["spec"]
    sandbox.patch("edge-eu", {"spec": {"source": {"targetRevision": "33.1.0"}}})
    sandbox.pass_time(3)
    assert sandbox.get("edge-eu")["spec"] == spec


def test_the_missing_child_stays_missing_and_a_sync_says_why(sandbox: Sandbox) -> None:
    sandbox.sync("payments-staging")
    app = sandbox.app("payments-staging")
    assert (app.operation_phase, app.health, app.sync) == ("Failed", Health.HEALTHY, Sync.OUT_OF_SYNC)
    assert "admission webhook" in app.operation_message
    assert sandbox.store.get(APPLICATION, NAMESPACE, "payments-migrations-staging") is None


@pytest.mark.parametrize(
    ("name", "kind", "patch"),
    [
        ("shop-cart", DEPLOYMENT, {"spec": {"template": {"metadata": {"annotations": {"restartedAt": "now"}}}}}),
        ("shop-web", ROLLOUT, {"spec": {"restartAt": "now"}}),
    ],
)
def test_a_restart_rolls_the_workload_and_ends_healthy(sandbox: Sandbox, name: str, kind: Kind, patch: Json) -> None:
    sandbox.patch(name, patch, kind, "shop")
    sandbox.reconciler.step(sandbox.now)
    assert sandbox.app(name).health is Health.PROGRESSING
    sandbox.pass_time(1)
    assert sandbox.app(name).health is Health.HEALTHY


def test_a_scaled_workload_gets_its_replicas_and_the_app_is_out_of_sync(sandbox: Sandbox) -> None:
    sandbox.patch("shop-cart", {"spec": {"replicas": 5}}, DEPLOYMENT, "shop")
    sandbox.pass_time(10)
    assert sandbox.get("shop-cart", DEPLOYMENT, "shop")["status"]["readyReplicas"] == 5
    assert (sandbox.app("shop-cart").sync, sandbox.app("shop-cart").health) == (Sync.OUT_OF_SYNC, Health.HEALTHY)
    sandbox.sync("shop-cart")
    assert sandbox.get("shop-cart", DEPLOYMENT, "shop")["spec"]["replicas"] == 3


def test_an_app_that_heals_itself_takes_back_its_replicas(sandbox: Sandbox) -> None:
    sandbox.patch("shop-cart-dev", {"spec": {"replicas": 5}}, DEPLOYMENT, "shop-dev")
    sandbox.pass_time(3)
    assert sandbox.get("shop-cart-dev", DEPLOYMENT, "shop-dev")["spec"]["replicas"] == 1
    assert sandbox.app("shop-cart-dev").sync is Sync.SYNCED


def test_a_failing_app_warns_again_and_again(sandbox: Sandbox) -> None:
    (before,) = sandbox.warnings("payments-worker")
    sandbox.pass_time(250)
    (after,) = sandbox.warnings("payments-worker")
    assert after["count"] == before["count"] + 2
    assert after["lastTimestamp"] > before["lastTimestamp"]


def test_what_was_once_read_of_the_store_never_changes(sandbox: Sandbox) -> None:
    held = {(kind, at): one for kind in KINDS for at, one in enumerate(sandbox.store.select(kind))}
    copied = copy.deepcopy(held)
    sandbox.sync("payments-worker")
    sandbox.sync("payments-staging")
    sandbox.patch("shop-cart", {"spec": {"replicas": 5}}, DEPLOYMENT, "shop")
    sandbox.pass_time(200)
    assert held == copied


def test_an_image_comes_from_git_unless_an_override_or_a_parameter_says_another() -> None:
    git = "registry.example.com/shop/cart:1"
    helm = {"parameters": [{"name": "image.tag", "value": "2"}]}
    assert choose_image({}, git) == git
    assert choose_image({"kustomize": {"images": ["registry.example.com/shop/cart:2"]}}, git)[-2:] == ":2"
    assert choose_image({"kustomize": {"images": ["registry.example.com/other:2"]}}, git) == git
    moved = {"kustomize": {"images": ["registry.example.com/shop/cart=mirror.example.com/cart:3"]}}
    assert choose_image(moved, git) == "mirror.example.com/cart:3"
    assert choose_image({"helm": helm}, git) == "registry.example.com/shop/cart:2"
