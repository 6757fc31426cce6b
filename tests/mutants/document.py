"""The table of attacks in docs/attacks.md, rendered from the mutants."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from tests.mutants.catalogue import PARTS, Mutant

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
BEGIN, END = "<!-- written by ./scripts/test mutants -->", "<!-- end -->"


def table(mutants: Sequence[Mutant]) -> str:
    """Markdown: one table for each part, one row for each mutant."""
    lines = []
    for part, title in PARTS.items():
        rows = [one for one in mutants if one.part == part]
        if rows:
            lines += ["", f"### {title}", "", "| attack | protection | test | patch |", "|---|---|---|---|"]
            lines += [_row(one) for one in rows]
    return "\n".join(lines).strip() + "\n"


def _row(one: Mutant) -> str:
    file, _, name = one.test.partition("::")
    cells = (one.attack, one.protection, f"`{file.removeprefix('tests/')}` `{name}`", f"`{one.name}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def with_table(text: str, mutants: Sequence[Mutant]) -> str:
    """`text` with the part between the marks made anew. Raises ValueError where a mark is missing."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise ValueError(f"{DOCUMENT.name} has to hold the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table(mutants)}\n{END}{after}"
