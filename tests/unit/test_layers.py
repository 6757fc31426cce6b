"""The layers of the design, proven on the code itself."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("agents", "jackin_web")
STARTERS = {"subprocess", "pty", "multiprocessing"}
START_CALLS = {"system", "popen", "posix_spawn", "posix_spawnp"} | {
    f"{verb}{kind}" for verb in ("exec", "spawn") for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
}
MAY_START = ("agents/engine/", "agents/host/")


def sources() -> list[pathlib.Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def starters_in(tree: ast.AST) -> set[str]:
    """What a file uses to start another program."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] in STARTERS}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in STARTERS:
                found.add(node.module)
            found |= {f"os.{alias.name}" for alias in node.names if node.module == "os" and alias.name in START_CALLS}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in START_CALLS:
                found.add(f"os.{node.attr}")
            if node.value.id == "asyncio" and node.attr.startswith("create_subprocess"):
                found.add(f"asyncio.{node.attr}")
    return found


def test_imports_go_down_only() -> None:
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_engine_and_host_start_programs(path: pathlib.Path) -> None:
    name = str(path.relative_to(ROOT))
    found = starters_in(ast.parse(path.read_text()))
    assert name.startswith(MAY_START) or not found, f"{name} uses {sorted(found)}"


def test_the_look_for_starters_finds_them() -> None:
    code = (
        "import subprocess\nfrom os import execv\nimport os, asyncio\nos.system('')\nasyncio.create_subprocess_exec\n"
    )
    assert starters_in(ast.parse(code)) == {"subprocess", "os.execv", "os.system", "asyncio.create_subprocess_exec"}


def test_no_container_folder_is_a_package() -> None:
    assert not list((ROOT / "docker").rglob("__init__.py"))
