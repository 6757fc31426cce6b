"""The mutants are in order: each names a test that exists, and the document shows them as they are."""

from __future__ import annotations

import ast
import pathlib

import pytest

from tests.mutants import catalogue, document
from tests.mutants.catalogue import BadMutant, Mutant

ROOT = pathlib.Path(__file__).resolve().parents[2]
MUTANTS = catalogue.read_all()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_each_names_a_test_that_exists(mutant: Mutant) -> None:
    file, _, name = mutant.test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name.partition("[")[0] in functions


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_each_changes_the_product_and_no_test(mutant: Mutant) -> None:
    changed = [line[6:] for line in mutant.path.read_text().splitlines() if line.startswith("+++ b/")]
    assert changed
    assert not [name for name in changed if name.startswith("tests/")]


def test_the_document_shows_them_all() -> None:
    text = document.DOCUMENT.read_text()
    assert text == document.with_table(text, MUTANTS), "run ./scripts/test mutants"


def test_parts_and_names_choose() -> None:
    some = [_mutant("one", "files"), _mutant("two", "gate")]
    assert [one.name for one in catalogue.chosen(some, [])] == ["one", "two"]
    assert [one.name for one in catalogue.chosen(some, ["gate"])] == ["two"]
    assert [one.name for one in catalogue.chosen(some, ["one"])] == ["one"]
    with pytest.raises(BadMutant, match="three"):
        catalogue.chosen(some, ["three"])


@pytest.mark.parametrize(
    "head",
    [
        "Part: files\nAttack: a\nProtection: p\n",
        "Part: nowhere\nAttack: a\nProtection: p\nTest: tests/unit/test_x.py::test_y\n",
        "Part: files\nAttack: a\nProtection: p\nTest: tests/unit/test_x.py\n",
    ],
)
def test_a_head_that_is_not_complete_is_refused(tmp_path: pathlib.Path, head: str) -> None:
    patch = tmp_path / "bad.patch"
    patch.write_text(f"{head}\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n")
    with pytest.raises(BadMutant, match=r"bad\.patch"):
        catalogue.read(patch)


def test_a_row_cannot_break_its_table() -> None:
    assert "a \\| b" in document.table([_mutant("one", "files", attack="a | b")])


def _mutant(name: str, part: str, *, attack: str = "an attack") -> Mutant:
    path, test = pathlib.Path(f"{name}.patch"), "tests/unit/test_x.py::test_y"
    return Mutant(name=name, path=path, part=part, attack=attack, protection="a wall", test=test)
