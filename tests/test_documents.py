"""The documents say what the code does, and their links lead somewhere."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.documents import answers_page, settings_page, users_file

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


WRITTEN = {"docs/answers.md": answers_page, "docs/settings.md": settings_page, "deploy/redis/users.conf": users_file}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_is_written_from_the_code_is_what_the_code_says(name: str) -> None:
    path, text = ROOT / name, WRITTEN[name]()
    if os.environ.get("ARBORGATE_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text, "run `make golden`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return
    named = re.findall(r"`((?:server|tools|policies|tests|deploy|docs|bench)/[\w./-]+\.\w+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_begins_with_the_two_commands() -> None:
    first = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make demo", "make test"]


def test_no_file_of_ours_passes_its_length() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.split() if not (ROOT / name).is_symlink()]
    assert [str(file) for file in files if file.exists() and len(file.read_text().splitlines()) > 450] == []
