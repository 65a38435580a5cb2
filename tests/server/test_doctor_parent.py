"""`arborgate doctor` with the settings of a parent app's controller: what it needs, and what it has no business with."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from arborgate.server.approvals import new_signing_key
from arborgate.tools.redis.acl import parent_rules
from tests.parts.kube import Identity, KubeApi
from tests.parts.redis import RedisServer, run_command
from tests.server.parents.estate import SHOP
from tests.server.parents.office import TEMPLATE
from tests.server.test_doctor import commands

PREFIX = "{arborgate}:"
ASKED, SAID = (f"{PREFIX}parent:{SHOP}:{name}" for name in ("asked", "said"))


class Controller:
    """The settings of a controller, in a folder with all that they name, and its Redis user."""

    def __init__(self, folder: Path, redis: RedisServer, kube: KubeApi) -> None:
        self.folder, self.redis = folder, redis
        private, public = new_signing_key()
        self.keep("parent.jwk", private)
        self.keep("public.jwk", public)
        self.keep("template.yaml", yaml.safe_dump(TEMPLATE))
        self.keep("password", secrets.token_hex(16))
        self.settings: dict[str, Any] = {
            "clusters": [{"name": "main", "kubeconfig": str(kube.kubeconfig(Identity.SERVE))}],
            "state": {
                "url": f"redis://{redis.host}:{redis.port}/0",
                "username": "parent-shop",
                "password_file": str(folder / "password"),
                "timeout": 2,
            },
            "controller": {
                "app": SHOP,
                "signing_key_file": str(folder / "parent.jwk"),
                "template_file": str(folder / "template.yaml"),
            },
        }
        self.permit(*parent_rules(SHOP, PREFIX))

    def keep(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def permit(self, *rules: str) -> None:
        password = (self.folder / "password").read_text()
        run_command(self.redis.admin, "ACL", "SETUSER", "parent-shop", "reset", "on", f">{password}", *rules)

    def examine(self, *words: str) -> tuple[int, dict[str, tuple[str, str]]]:
        """How it ended, and of each thing how it is and the words about it."""
        config = self.keep("parent.yaml", yaml.safe_dump(self.settings))
        done = CliRunner().invoke(commands, ["--config", str(config), "--json", *words])
        found = json.loads(done.stdout)
        return done.exit_code, {one["what"]: (one["mark"], f"{one['told']}; {one['way_out']}") for one in found}


@pytest.fixture
def controller(tmp_path: Path, redis_server: RedisServer, redis_url: str, kube_api: KubeApi) -> Iterator[Controller]:
    assert redis_url, "it is empty"
    kube_api.recover()
    yield Controller(tmp_path, redis_server, kube_api)
    run_command(redis_server.admin, "ACL", "DELUSER", "parent-shop")


def test_a_controller_that_is_well_is_told_so_and_nothing_is_written(controller: Controller) -> None:
    code, told = controller.examine()
    assert code == 0
    assert {what: mark for what, (mark, _) in told.items() if mark != "ok"} == {}
    assert "as parent" in told["settings"][1]
    assert {"controller.app", "controller.signing_key_file", "controller.template_file"} < told.keys()
    assert {"redis streams", "redis user", "cluster main credentials"} < told.keys()
    assert controller.redis.admin.keys("*") == []


def test_statements_that_are_there_are_left_alone(controller: Controller) -> None:
    controller.redis.admin.xadd(SAID, {"statement": "one"})
    assert controller.examine()[0] == 0
    assert controller.redis.admin.xlen(SAID) == 1


@pytest.mark.parametrize("lacks", ["asked", "said"])
def test_a_user_who_lacks_one_of_the_streams_is_bad(controller: Controller, lacks: str) -> None:
    controller.permit(*(rule for rule in parent_rules(SHOP, PREFIX) if not rule.endswith(lacks)))
    code, told = controller.examine()
    assert (code, told["redis streams"][0]) == (1, "bad")


def test_a_user_who_may_only_read_what_it_says_is_bad(controller: Controller) -> None:
    rules = (rule if not rule.endswith("said") else f"%R~{SAID}" for rule in parent_rules(SHOP, PREFIX))
    controller.permit(*rules)
    assert controller.examine()[1]["redis streams"][0] == "bad"


def test_a_user_who_may_do_more_is_a_warning(controller: Controller) -> None:
    controller.permit("~{arborgate}:*", "+@all")
    code, told = controller.examine()
    assert (code, told["redis user"][0]) == (0, "warn")


def test_a_key_that_is_no_stream_is_bad(controller: Controller) -> None:
    controller.redis.admin.set(ASKED, "text")
    assert controller.examine()[1]["redis streams"][0] == "bad"


def test_a_redis_that_is_away_or_knows_nobody_is_bad(controller: Controller) -> None:
    controller.keep("password", "another")
    assert controller.examine()[1]["state.url"][1].startswith("Redis does not know this user")
    controller.settings["state"]["url"] = "redis://127.0.0.1:1/0"
    assert controller.examine()[1]["state.url"][0] == "bad"


def test_an_app_of_no_cluster_a_public_key_and_a_broken_template_are_bad(controller: Controller) -> None:
    own = controller.settings["controller"]
    own |= {"app": "shop", "signing_key_file": str(controller.folder / "public.jwk")}
    controller.keep("template.yaml", "rules: []")
    code, told = controller.examine()
    assert code == 1
    assert told["controller.app"] == (
        "bad",
        "shop is in none of the clusters (main); give it as cluster/namespace/name",
    )
    assert "holds a public key" in told["controller.signing_key_file"][1]
    assert "arborgate keys parent" in told["controller.signing_key_file"][1]
    assert told["controller.template_file"][0] == "bad"


def test_a_private_key_that_others_can_read_is_a_warning(controller: Controller) -> None:
    (controller.folder / "parent.jwk").chmod(0o644)
    assert controller.examine()[1]["controller.signing_key_file"][0] == "warn"


def test_credentials_that_can_write_to_a_cluster_are_bad(controller: Controller, kube_api: KubeApi) -> None:
    controller.settings["clusters"][0]["kubeconfig"] = str(kube_api.kubeconfig(Identity.APPLIER))
    mark, words = controller.examine()[1]["cluster main credentials"]
    assert (mark, "what steals parent has that too" in words) == ("bad", True)


def test_settings_without_a_controller_are_bad_where_one_is_asked_for(controller: Controller) -> None:
    del controller.settings["controller"]
    code, told = controller.examine("--process", "parent")
    assert (code, told["controller"][0]) == (1, "bad")
