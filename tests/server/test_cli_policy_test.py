"""`arborgate policy test`: what it prints and writes, and its exit codes."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from arborgate.server.cli_policy import commands
from tests.policies.writing import change, copy_shipped, line_of


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["test", *(str(argument) for argument in arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_shipped(tmp_path / "set")


@pytest.fixture
def broken(folder: Path) -> Path:
    change(
        folder / "cases/readers.yaml", lambda text: text.replace("may: record:search_all", "may_not: record:search_all")
    )
    return folder


def test_a_failure_tells_what_was_expected_and_decided_and_where_the_policies_stand(broken: Path) -> None:
    result = run(broken)

    line = line_of(broken / "readers.cedar", '@id("auditors-search-all-records")')
    (first, *rest) = result.stderr.splitlines()
    assert result.exit_code == 1
    assert first.startswith(f"{broken}/cases/readers.yaml:")
    assert first.endswith(
        "may not record:search_all on Installation::arborgate, but allowed by auditors-search-all-records"
    )
    assert rest == [
        "    expected  denied by auditors-search-all-records",
        "    decided   allowed by auditors-search-all-records",
        f"              auditors-search-all-records  {broken}/readers.cedar:{line}:1",
        "    why       Auditing is finding out who did what.",
    ]


def test_each_case_is_a_junit_test_with_its_place(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--junit", tmp_path / "out.xml").exit_code == 0

    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    suites = root.findall("testsuite")
    names = {file.stem for file in folder.glob("cases/*.yaml")}
    assert {suite.get("name") for suite in suites} == names
    assert root.get("tests") == str(len(root.findall("testsuite/testcase")))
    assert {suite.get("failures") for suite in (root, *suites)} == {"0"}
    test = next(test for test in root.iter("testcase") if test.get("classname") == "policies.approvers")
    assert test.get("name") == "amy (pages, arborgate-pages) may proposal:approve on Proposal::prod-of-dana"
    assert test.get("file") == f"{folder}/cases/approvers.yaml"
    assert str(test.get("line")).isdigit()


def test_a_failing_case_and_a_gap_are_junit_failures(broken: Path, tmp_path: Path) -> None:
    (broken / "own.cedar").write_text('@id("idle") permit (principal in Role::"x", action, resource);')

    run(broken, "--junit", tmp_path / "out.xml")

    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    failures = {test.get("classname"): test.find("failure") for test in root.iter("testcase") if len(test)}
    assert root.get("failures") == "2"
    assert failures.keys() == {"policies.readers", "policies.gaps"}
    assert "but allowed by auditors-search-all-records" in str(getattr(failures["policies.readers"], "text", ""))
    assert "no case is decided by the policy 'idle'" in str(getattr(failures["policies.gaps"], "text", ""))


def test_policies_that_cannot_be_read_are_a_junit_error(folder: Path, tmp_path: Path) -> None:
    (folder / "own.cedar").write_text("permit \x01")

    assert run(folder, "--junit", tmp_path / "out.xml").exit_code == 1

    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert (root.get("tests"), root.get("errors"), root.get("failures")) == ("1", "1", "0")
    assert "own.cedar:1:8" in str(root.findtext("testsuite/testcase/error"))


def test_a_junit_file_that_cannot_be_written_is_a_wrong_call(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--junit", tmp_path / "none/out.xml").exit_code == 2


def test_coverage_names_conditions_that_are_seen_one_way_only(folder: Path) -> None:
    (folder / "own.cedar").write_text(
        '@id("own")\npermit (principal, action == Action::"app:list", resource)\nwhen { context.agent != "nobody" };'
    )

    result = run(folder, "--coverage")

    assert "own decides no case" not in result.stdout
    assert f"{folder}/own.cedar:3:1: own: in no case is it this condition alone that keeps it off\n" in result.stdout
    assert '    when { context.agent != "nobody" };\n    ^^^^^' in result.stdout


def test_mutants_that_no_case_notices_are_told_and_exit_1(folder: Path) -> None:
    (folder / "own.cedar").write_text(
        '@id("own")\npermit (principal in Role::"o", action == Action::"app:list", resource is App);'
    )
    (folder / "cases/own.yaml").write_text(
        "world: {apps: {a/b/c: {}}}\npeople: {olga: {roles: [o]}}\n"
        "cases: [{who: olga, may: 'app:list', of: 'App::a/b/c', by: own, why: because}]\n"
    )
    assert run(folder).exit_code == 0

    result = run(folder, "--mutants")

    assert result.exit_code == 1
    assert (
        f"{folder}/own.cedar:2:63: own: every case holds without this part of the scope, too\n"
        '    permit (principal in Role::"o", action == Action::"app:list", resource is App);\n'
        f"    {' ' * 62}{'^' * 15}\n"
    ) in result.stderr


def test_without_settings_or_a_network_it_runs_in_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ARBORGATE_CONFIG", "not-there.yaml")

    result = run(".")

    assert result.exit_code == 0
    assert result.stderr == ""
