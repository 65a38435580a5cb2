"""Settings: read once, and refused with the key, the file and the way out."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from arborgate.policies.errors import BadConfiguration
from arborgate.server.settings import Settings, StateSettings, parse_settings, read_settings
from arborgate.server.state import open_state
from arborgate.tools.environments import UNASSIGNED, EnvironmentRule, Environments


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"htp": {}}, "htp: unknown setting; did you mean 'http'?"),
        ({"http": {"prot": 1}}, "http.prot: unknown setting; did you mean 'port'?"),
        ({"clusters": [{"nam": "x"}]}, "clusters.0.nam: unknown setting; did you mean 'name'?"),
        ({"http": {"port": 70_000}}, "http.port:"),
        ({"http": []}, "http:"),
        ({"identity": {"issuers": [{"issuer": "http://sso.example.com"}]}}, "neither https nor on loopback"),
        ({"identity": {"issuers": [{"issuer": "http://127.0.0.1.evil.test"}]}}, "neither https nor on loopback"),
        ({"identity": {"issuers": [{"issuer": "http://localhost@evil.test"}]}}, "no fragment and no user"),
        ({"identity": {"issuers": [{"issuer": "https://x", "jwks_url": "http://evil.test"}]}}, "neither https nor on"),
        ({"http": {"public_url": "gate.example.com"}}, "http.public_url:"),
        ({"http": {"public_url": "https://gate.example.com/mcp"}}, "http.public_url:"),
        ({"http": {"public_url": "https://u:p@gate.example.com"}}, "http.public_url:"),
        ({"identity": {"issuers": [{"issuer": "https://x", "algorithms": ["HS256"]}]}}, "algorithms"),
        ({"identity": {"issuers": [{"issuer": "https://x"}, {"issuer": "https://x"}]}}, "same issuer"),
        ({"identity": {"issuers": [{"issuer": "https://x", "scopes": {"read": ""}}]}}, "issuers.0.scopes.read"),
        (
            {
                "identity": {
                    "issuers": [{"issuer": "https://x", "audience": "api://a"}],
                    "pages": {"issuer": "https://x", "terminal_audience": "api://a"},
                }
            },
            "agents' tokens would open the approvals",
        ),
        ({"clusters": [{"name": "a"}, {"name": "a"}]}, "same name"),
        (
            {"calendar": {"freezes": [{"form": "12-20"}]}},
            "calendar.freezes.0.form: unknown setting; did you mean 'from'?",
        ),
        (
            {
                "environments": [{"name": "production"}],
                "calendar": {
                    "freezes": [{"name": "x", "from": "12-20", "until": "01-04", "environments": ["prodution"]}]
                },
            },
            "x: 'prodution' is not an environment; did you mean 'production'?",
        ),
        ([], "must be a mapping"),
    ],
)
def test_a_mistake_names_its_key_and_the_way_out(raw: object, words: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        parse_settings(raw, origin="arborgate.yaml")
    assert words in refused.value.message
    assert refused.value.message.startswith("arborgate.yaml: ")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(BadConfiguration) as refused:
        parse_settings({"a": 1, "b": 2})
    assert len(refused.value.message.splitlines()) == 2


def test_the_file_is_found_by_argument_environment_or_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings(None, {}) == Settings()
    (tmp_path / "arborgate.yaml").write_text("replica: by-name")
    (tmp_path / "other.yaml").write_text("replica: by-environment")
    (tmp_path / "third.yaml").write_text("replica: by-argument")
    assert read_settings(None, {}).replica == "by-name"
    assert read_settings(None, {"ARBORGATE_CONFIG": "other.yaml"}).replica == "by-environment"
    assert read_settings(Path("third.yaml"), {"ARBORGATE_CONFIG": "other.yaml"}).replica == "by-argument"


def test_a_file_that_is_away_or_no_yaml_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="cannot be read"):
        read_settings(tmp_path / "none.yaml", {})
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(BadConfiguration, match="is not YAML"):
        read_settings(tmp_path / "bad.yaml", {})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadConfiguration, match="cannot be read"):
        read_settings(tmp_path / "binary.yaml", {})


def test_a_section_that_is_there_twice_is_refused_since_one_of_them_would_be_lost(tmp_path: Path) -> None:
    file = tmp_path / "applier.yaml"
    file.write_text("applier:\n  approvers_file: approvers.yaml\nreplica: a\napplier:\n  lease: 30\n")
    with pytest.raises(BadConfiguration) as refused:
        read_settings(file, {})
    assert "applier.yaml, line 4, column 1: the key 'applier' is there twice" in refused.value.message
    file.write_text("http: {port: 1, host: h, port: 2}\n")
    with pytest.raises(BadConfiguration, match="'port' is there twice"):
        read_settings(file, {})


def test_a_mistake_in_the_file_never_repeats_what_stands_there(tmp_path: Path) -> None:
    file = tmp_path / "arborgate.yaml"
    texts = (
        "state:\n  url: redis://u:planted@h: 1\n",
        "state:\n  url: [planted]\n",
        "state:\n  timeout: planted\n",
        "redis:\n- name: PLANTED planted\n",
    )
    for text in texts:
        file.write_text(text)
        with pytest.raises(BadConfiguration) as refused:
            read_settings(file, {})
        assert "planted" not in f"{refused.value.message}{refused.value.hint}"
        assert "arborgate.yaml" in refused.value.message


def test_a_password_file_that_is_away_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="password_file: can't be read"):
        open_state(StateSettings(password_file=tmp_path / "none"))


TIER = {"tier": "web"}


def test_an_app_is_in_the_first_environment_whose_matchers_all_match() -> None:
    environments = Environments(
        [
            EnvironmentRule(name="production", strict=True, namespaces=("prod-*",), labels={"tier": "*"}),
            EnvironmentRule(name="staging", projects=("shop",)),
        ]
    )

    def assign(project: str = "shop", namespace: str = "prod-a", labels: Mapping[str, str] = TIER) -> str:
        return environments.assign(cluster="c", project=project, namespace=namespace, labels=labels)

    assert assign() == "production"
    assert assign(labels={}) == "staging"
    assert assign(namespace="dev", project="other") == UNASSIGNED


def test_an_unassigned_app_is_as_strict_as_production() -> None:
    assert Environments([]).strict(UNASSIGNED)
