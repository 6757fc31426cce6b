"""Names for the path picker: the longest answer fits."""

from __future__ import annotations

import json
import pathlib

from agents.broker import listing, owner
from agents.broker.protocol import MOST_LISTED

LONGEST = "\N{GRINNING FACE}" * 62  # 248 bytes; four more are left for a number


def test_the_longest_answer_of_a_child_is_not_too_long(tmp_path: pathlib.Path) -> None:
    for number in range(MOST_LISTED + 1):
        (tmp_path / f"{LONGEST}{number:03}").mkdir()
    answer = listing._read(str(tmp_path), "", MOST_LISTED)
    assert (len(answer["names"]), answer["more"]) == (MOST_LISTED, True)
    assert len(json.dumps(answer)) <= owner.MOST_ANSWER
