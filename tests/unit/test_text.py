"""Foreign text is shown, never obeyed: in pages and in logs."""

from __future__ import annotations

import logging

import pytest

from agents.operations.text import VisibleFormatter, shortened, visible


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r", "a\\x0ab\\x0d"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("tab\t", "tab\t"),
    ],
)
def test_visible(raw: str, shown: str) -> None:
    assert visible(raw) == shown


def test_shortened_marks_its_end() -> None:
    assert shortened("abc", most=3) == "abc"
    assert shortened("abcd", most=3) == "ab…"


def test_a_log_line_stays_one_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "path %s", ("/a\nFORGED\x1b[2J",), None)
    line = VisibleFormatter("{levelname}: {message}", style="{").format(record)
    assert line == "INFO: path /a\\x0aFORGED\\x1b[2J"


def test_an_exceptions_text_cannot_forge_escapes() -> None:
    try:
        raise ValueError("bad \x1b[2J")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "oh", (), (ValueError, error, error.__traceback__))
    line = VisibleFormatter("{message}", style="{").format(record)
    assert "\x1b" not in line
    assert "Traceback" in line
