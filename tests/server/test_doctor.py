"""`arborgate doctor`: an installation that is well is told so, and each thing that is not, in a line with the way out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from arborgate.server.approvals import new_signing_key
from arborgate.server.approvers import Approver, Approvers, write_approvers
from arborgate.server.cli_doctor import doctor
from arborgate.server.doctor_findings import Mark, judge_clock
from arborgate.server.passkeys import RelyingParty
from tests.parts.authenticator import Authenticator
from tests.parts.kube import Identity, KubeApi
from tests.parts.redis import RedisCluster, RedisSentinel, RedisServer, run_command

commands = typer.Typer()
commands.command()(doctor)


class Patient:
    """The settings of one process, in a folder with all that they name."""

    def __init__(self, folder: Path, redis: RedisServer, kube: KubeApi) -> None:
        self.folder, self.redis = folder, redis
        private, public = new_signing_key()
        (folder / "record").mkdir()
        for name, text in (("private.jwk", private), ("public.jwk", public), ("record.jwk", new_signing_key()[0])):
            self.keep(name, text)
        self.keep("admin.password", redis.passwords["admin"])
        self.settings: dict[str, Any] = {
            "state": {"url": redis.url(), "timeout": 2},
            "clusters": [{"name": "main", "kubeconfig": str(kube.kubeconfig(Identity.SERVE))}],
            "record": {"dir": str(folder / "record"), "signing_key_file": str(folder / "record.jwk")},
            "proposals": {"signing_key_file": str(folder / "private.jwk")},
        }

    def keep(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def examine(self, *words: str, admin: bool = True) -> Result:
        config = self.keep("arborgate.yaml", yaml.safe_dump(self.settings))
        trusted = ["--redis-user", "admin", "--redis-password-file", str(self.folder / "admin.password")]
        return CliRunner().invoke(commands, ["--config", str(config), *(trusted if admin else []), *words])

    def told(self, what: str, *, admin: bool = True) -> tuple[str, str]:
        """How one thing is, and the words about it."""
        found = [each for each in json.loads(self.examine("--json", admin=admin).stdout) if each["what"] == what]
        worst = max(found, key=lambda each: list(Mark).index(Mark(each["mark"])))
        return worst["mark"], f"{worst['told']}; {worst['way_out']}"


@pytest.fixture
def patient(tmp_path: Path, redis_server: RedisServer, redis_url: str, kube_api: KubeApi) -> Patient:
    kube_api.recover()
    return Patient(tmp_path, redis_server, kube_api)


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Any]:
    """The test's own client, which leaves the configuration and the default user as they were."""
    yield redis_server.admin
    for name, value in (("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")):
        redis_server.admin.config_set(name, value)
    run_command(redis_server.admin, "ACL", "SETUSER", "default", "reset", "off", "~*", "&*", "+@all")


def test_an_installation_that_is_well_is_told_so_in_one_line_for_each_thing(patient: Patient, admin: Any) -> None:
    admin.config_set("appendfsync", "always")
    done = patient.examine()
    assert done.exit_code == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    things = [line[6:33].strip() for line in lines]
    assert things == [
        "settings",
        "proposals.signing_key_file",
        "record.signing_key_file",
        "policies.dir",
        "record.dir",
        "http.public_url",
        "state.url",
        "redis version",
        "redis appendonly",
        "redis maxmemory-policy",
        "redis clock",
        "redis appendfsync",
        "redis user default",
        "state.replicas_acknowledge",
        "cluster main",
        "cluster main clock",
        "cluster main credentials",
    ]
    assert patient.redis.passwords["arborgate"] not in done.stdout


def test_settings_that_can_not_be_read_are_bad_line_by_line(patient: Patient) -> None:
    patient.settings |= {"clutsers": [], "stale_after": "soon"}
    done = patient.examine()
    assert done.exit_code == 1
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["bad", "settings"]] * 2
    assert "did you mean 'clusters'" in done.stdout


@pytest.mark.parametrize(
    ("setting", "value", "what", "mark"),
    [
        ("appendonly", "no", "redis appendonly", "bad"),
        ("appendfsync", "everysec", "redis appendfsync", "warn"),
        ("appendfsync", "no", "redis appendfsync", "bad"),
        ("maxmemory-policy", "allkeys-lru", "redis maxmemory-policy", "bad"),
    ],
)
def test_a_redis_that_forgets_is_found(
    patient: Patient, admin: Any, setting: str, value: str, what: str, mark: str
) -> None:
    admin.config_set(setting, value)
    assert patient.told(what)[0] == mark


def test_a_default_user_who_may_not_do_everything_is_found(patient: Patient, admin: Any) -> None:
    run_command(admin, "ACL", "SETUSER", "default", "-@all")
    assert patient.told("redis user default") == (
        "bad",
        "may not do everything (no +@all), so a restart drops what scripts wrote; user default off ~* &* +@all",
    )
    run_command(admin, "ACL", "SETUSER", "default", "reset", "on", "nopass", "~*", "&*", "+@all")
    assert patient.told("redis user default")[0] == "bad"


def test_what_its_own_user_may_not_ask_of_redis_is_a_warning(patient: Patient) -> None:
    assert patient.told("redis appendfsync", admin=False)[0] == "warn"
    assert patient.told("redis user default", admin=False)[0] == "warn"


def test_a_password_of_nobody_is_refused_with_the_way_out(tmp_path: Path) -> None:
    asked = CliRunner().invoke(commands, ["--config", str(tmp_path / "none.yaml"), "--redis-password-file", "admin"])
    assert "Give --redis-user" in str(asked.exception)


def test_a_redis_that_is_away_or_knows_nobody_is_bad(patient: Patient) -> None:
    patient.settings["state"] = {"url": "redis://127.0.0.1:1/0", "timeout": 0.2}
    assert patient.told("state.url")[0] == "bad"
    server = patient.redis
    patient.settings["state"] = {"url": f"redis://arborgate:wrong@{server.host}:{server.port}/0"}
    assert patient.told("state.url") == (
        "bad",
        "Redis does not know this user by this password; see state.username, password_file",
    )


def test_credentials_of_serve_that_can_write_are_bad(patient: Patient, kube_api: KubeApi) -> None:
    patient.settings["clusters"] = [{"name": "main", "kubeconfig": str(kube_api.kubeconfig(Identity.APPLIER))}]
    mark, told = patient.told("cluster main credentials")
    assert (mark, "patch applications (argoproj.io)" in told) == ("bad", True)


def test_a_right_to_write_in_one_namespace_alone_is_found(
    patient: Patient, kube_api: KubeApi, kube_namespace: str
) -> None:
    account = {"kind": "ServiceAccount", "name": "arborgate-serve", "namespace": "arborgate"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "arborgate-applier"}
    kube_api.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "too-much", "namespace": kube_namespace},
            "roleRef": role,
            "subjects": [account],
        }
    )
    try:
        mark, told = patient.told("cluster main credentials")
        assert (mark, f"patch applications in {kube_namespace}" in told) == ("bad", True)
    finally:
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{kube_namespace}/rolebindings/too-much"
        kube_api.call("DELETE", path)


def test_the_applier_needs_to_patch_and_nothing_beyond(patient: Patient, kube_api: KubeApi) -> None:
    patient.settings["proposals"] = {"verify_key_file": str(patient.folder / "public.jwk")}
    told = patient.told("cluster main credentials")
    assert told == (
        "bad",
        "may not patch applications (argoproj.io), patch deployments (apps); apply deploy/kubernetes/rbac.yaml",
    )
    for identity, mark in ((Identity.APPLIER, "ok"), (Identity.ADMIN, "warn")):
        patient.settings["clusters"] = [{"name": "main", "kubeconfig": str(kube_api.kubeconfig(identity))}]
        assert patient.told("cluster main credentials")[0] == mark


def test_a_cluster_that_is_away_is_bad(patient: Patient, kube_api: KubeApi) -> None:
    text = kube_api.kubeconfig(Identity.SERVE).read_text().replace(kube_api.url, "https://127.0.0.1:1")
    patient.settings["clusters"] = [{"name": "main", "kubeconfig": str(patient.keep("away.kubeconfig", text))}]
    assert patient.told("cluster main")[0] == "bad"


def test_keys_that_are_no_pair_or_that_others_can_read_are_found(patient: Patient) -> None:
    other = patient.keep("other.jwk", new_signing_key()[1])
    patient.settings["proposals"]["verify_key_file"] = str(other)
    assert patient.told("proposals.verify_key_file")[0] == "bad"
    patient.settings["proposals"]["verify_key_file"] = str(patient.folder / "public.jwk")
    assert patient.told("proposals.verify_key_file")[0] == "ok"
    (patient.folder / "private.jwk").chmod(0o644)
    assert patient.told("proposals.signing_key_file")[0] == "warn"
    patient.settings["proposals"]["signing_key_file"] = str(patient.folder / "public.jwk")
    assert patient.told("proposals.signing_key_file")[0] == "bad"


def test_policies_that_do_not_load_are_bad(patient: Patient) -> None:
    folder = patient.folder / "policies"
    folder.mkdir()
    (folder / "own.cedar").write_text("permit (principal, action, resource")
    patient.settings["policies"] = {"dir": str(folder)}
    assert patient.told("policies.dir")[0] == "bad"


def test_a_record_that_can_not_be_written_is_bad(patient: Patient) -> None:
    patient.settings["record"]["dir"] = str(patient.folder / "private.jwk" / "record")
    assert patient.told("record.dir")[0] == "bad"


def test_passkeys_need_a_host_name_and_pages_a_safe_address(patient: Patient) -> None:
    patient.settings["proposals"]["passkeys"] = "required"
    assert patient.told("http.public_url")[0] == "bad"
    patient.settings["http"] = {"public_url": "https://arborgate.test"}
    assert patient.told("http.public_url") == ("ok", "passkeys belong to the host name arborgate.test, for good; ")
    patient.settings["proposals"]["passkeys"] = "off"
    patient.settings["http"] = {"public_url": "http://arborgate.test"}
    assert patient.told("http.public_url")[0] == "warn"


def test_a_file_of_approvers_that_is_older_than_the_registry_is_found(patient: Patient) -> None:
    patient.settings["http"] = {"public_url": "https://arborgate.test"}
    patient.settings["applier"] = {"approvers_file": str(patient.keep("approvers.yaml", "approvers: []\n"))}
    assert patient.told("applier.approvers_file") == ("ok", "has the 0 passkeys that are enrolled; ")
    person = Approver(issuer="https://issuer.test", subject="ana", name="Ana")
    passkey = Authenticator(RelyingParty.of("https://arborgate.test"), person.key).passkey
    file = patient.folder / "approvers.yaml"
    file.write_text(write_approvers(Approvers(approvers=(person.model_copy(update={"passkeys": (passkey,)}),))))
    mark, told = patient.told("applier.approvers_file")
    assert (mark, "0 passkeys are new, 1 are gone" in told) == ("warn", True)
    file.write_text(file.read_text().replace(passkey.public_key, "bm8ga2V5"))
    assert patient.told("applier.approvers_file")[0] == "bad"
    patient.settings["applier"] = {"approvers_file": str(patient.folder / "nowhere.yaml")}
    assert patient.told("applier.approvers_file")[0] == "bad"


def test_a_replica_is_worth_nothing_until_it_has_to_acknowledge(
    patient: Patient, redis_sentinel: RedisSentinel
) -> None:
    user = f"arborgate:{redis_sentinel.passwords['arborgate']}"
    hosts = ",".join(f"{host}:{port}" for host, port in redis_sentinel.sentinels)
    patient.settings["state"]["url"] = f"redis+sentinel://{user}@{hosts}/{redis_sentinel.master_name}/0"
    mark, told = patient.told("state.replicas_acknowledge", admin=False)
    assert (mark, "may lose the last approvals" in told) == ("warn", True)
    patient.settings["state"]["replicas_acknowledge"] = 1
    assert patient.told("state.replicas_acknowledge", admin=False)[0] == "warn", "there is but one"
    assert patient.told("redis min-replicas-to-write", admin=False)[0] == "warn"
    primary = redis_sentinel.find_primary().admin
    primary.config_set("min-replicas-to-write", 1)
    try:
        assert patient.told("redis min-replicas-to-write", admin=False)[0] == "ok"
    finally:
        primary.config_set("min-replicas-to-write", 0)
    patient.settings["state"]["replicas_acknowledge"] = 2
    assert patient.told("state.replicas_acknowledge", admin=False)[0] == "bad"


def test_each_primary_of_a_cluster_is_looked_at(patient: Patient, redis_cluster: RedisCluster) -> None:
    patient.settings["state"]["url"] = redis_cluster.url().replace("redis://", "redis+cluster://").removesuffix("/0")
    found = json.loads(patient.examine("--json", admin=False).stdout)
    assert [each["mark"] for each in found if each["what"] == "redis version"] == ["ok"] * 3


@pytest.mark.parametrize(("skew", "mark"), [(0.4, "ok"), (-1.9, "ok"), (5.0, "warn"), (-90.0, "bad")])
def test_a_clock_that_is_wrong_is_found(skew: float, mark: str) -> None:
    assert judge_clock("redis clock", skew).mark == mark
