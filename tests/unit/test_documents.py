"""What the documents, pages and help texts promise is there under exactly these names."""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest
from django.core.management import get_commands

from agents.host import layout, serve
from agents.host.instance import Instance

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOP = {
    *("manage.py", "pyproject.toml", "README.md", "LICENSE"),
    *("jackin_web", "agents", "templates", "static", "tests", "docker", "scripts", "docs"),
    *("package.json", "package-lock.json", "requirements.lock", "requirements-dev.lock"),
}
BY_ROOT = {"host", "doctor"}
HOST_COMMANDS = {"link", "unlink", "links"}


def tracked() -> list[pathlib.PurePath]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    return [pathlib.PurePath(name) for name in listed.stdout.split("\0") if name]


def texts() -> str:
    """All that people read: documents, pages, messages."""
    found = [ROOT / name for name in tracked() if name.parts[0] in ("docs", "templates", "agents", "README.md")]
    return "\n".join(path.read_text() for path in found if path.suffix in (".md", ".html", ".py") and path.exists())


def test_the_top_level_is_what_it_should_be() -> None:
    assert {name.parts[0] for name in tracked() if not name.parts[0].startswith(".")} == TOP
    assert pathlib.PurePath(".ci/run") in tracked()


def test_every_command_that_is_named_exists() -> None:
    ours = {name for name, app in get_commands().items() if app == "agents"}
    named = set(re.findall(r"[`>](?:sudo )?(?:\./)?manage\.py ([a-z_]+)", texts())) - {"words"}
    assert named <= ours | BY_ROOT
    assert named >= {"doctor", "host", "unlock", "one_time_password"}
    assert set(re.findall(r"manage\.py host ([a-z]+)", texts())) == HOST_COMMANDS


def test_every_option_of_serve_is_in_its_help_and_in_the_table() -> None:
    options = {word for action in serve.parser()._actions for word in action.option_strings if word.startswith("--")}
    shown = subprocess.run([ROOT / "scripts" / "serve", "--help"], capture_output=True, text=True, check=True).stdout
    table = (ROOT / "docs" / "operations.md").read_text()
    for option in options - {"--help"}:
        assert option in shown
        assert f"| `{option}" in table


def test_every_directory_is_in_the_table() -> None:
    table = (ROOT / "docs" / "operations.md").read_text()
    instance = Instance()
    for line in layout.table(instance):
        place = str(line.path).replace(f"{instance.data}/", "…/")
        assert f"`{place}" in table, place


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md", "docs/operations.md", "docs/security.md"])
def test_links_between_documents_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, target


def test_files_are_short_enough_to_read() -> None:
    kinds = {".py", ".html", ".js", ".mjs", ".css"}
    code = [name for name in tracked() if name.suffix in kinds and (ROOT / name).exists()]
    assert [str(name) for name in code if len((ROOT / name).read_text().splitlines()) > 300] == []
