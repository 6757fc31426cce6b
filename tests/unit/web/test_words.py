"""What is computed for the pages without a database: mount rows, the preview's sentences, waits."""

from __future__ import annotations

import pytest
from django.http import QueryDict

from agents.operations.mounts import MOST_MOUNTS
from agents.web.auth import wait_words
from agents.web.forms import mounts
from agents.web.preview import Sentence, preview


def posted(*rows: tuple[str, str, str], count: str | None = None) -> QueryDict:
    data = QueryDict(mutable=True)
    data["mounts-count"] = count or str(len(rows))
    for index, (source, destination, mode) in enumerate(rows):
        data[f"mounts-{index}-source"] = source
        data[f"mounts-{index}-destination"] = destination
        data[f"mounts-{index}-mode"] = mode
    return data


def test_rows_are_read_as_typed() -> None:
    rows = mounts.posted_rows(posted((" /a ", "", "rw"), ("/b", "/workspace/b", "ro")))
    assert [(row.source, row.destination, row.mode) for row in rows] == [
        (" /a ", "", "rw"),
        ("/b", "/workspace/b", "ro"),
    ]
    assert rows[0].request().source == "/a"
    assert rows[0].request().destination == "/workspace/a"


@pytest.mark.parametrize(("count", "rows"), [("0", 1), ("-3", 1), ("x", 1), ("²", 1), ("99999", MOST_MOUNTS + 1)])
def test_the_number_of_rows_is_bounded(count: str, rows: int) -> None:
    assert len(mounts.posted_rows(posted(("/a", "", "ro"), count=count))) == rows


def test_rows_are_added_up_to_the_most_and_the_project_stays() -> None:
    rows = [mounts.project_row()]
    for _ in range(MOST_MOUNTS + 5):
        rows = mounts.with_added(rows)
    assert len(rows) == MOST_MOUNTS
    assert [row.index for row in mounts.without(rows, "3")] == list(range(MOST_MOUNTS - 1))
    assert len(mounts.without(rows, "0")) == MOST_MOUNTS


def texts(sentences: tuple[Sentence, ...]) -> list[str]:
    return [" ".join((sentence.text, *sentence.paths)) for sentence in sentences]


def test_the_preview_names_what_can_be_read_and_written() -> None:
    rows = mounts.posted_rows(posted(("/a", "", "rw"), ("/b", "", "ro"), ("", "", "ro")))
    found = preview(rows, account="alice")
    assert "Read and write /a" in texts(found.can)
    assert "Read /b" in texts(found.can)
    assert "Write to /b" in texts(found.cannot)
    assert "Do anything on this machine that alice could not" in texts(found.cannot)


def test_the_sensitive_comes_first_and_writing_is_sensitive() -> None:
    writing = preview(mounts.posted_rows(posted(("/a", "", "rw"))), account="")
    reading = preview(mounts.posted_rows(posted(("/a", "", "ro"))), account="")
    for found in (writing, reading):
        marks = [sentence.sensitive for sentence in found.can]
        assert marks == sorted(marks, reverse=True)
    assert "Change what you later run" in texts(writing.can)
    assert "Change what you later run" not in texts(reading.can)


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "1 second"), (40, "40 seconds"), (91, "2 minutes"), (900, "15 minutes")]
)
def test_a_wait_in_words(seconds: int, words: str) -> None:
    assert wait_words(seconds) == words
