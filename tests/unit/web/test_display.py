"""The filters and tags of templates: nothing hides, nothing is markup, units stay beside their numbers."""

from __future__ import annotations

import datetime
import unicodedata
import zoneinfo

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from agents.templatetags import jackin

TRICKS = ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\ue000", "\U000e0041"]


@pytest.mark.parametrize("character", TRICKS)
def test_a_character_that_hides_is_shown_by_its_number(character: str) -> None:
    shown = jackin.visible(f"a{character}b")
    assert character not in shown
    assert shown.startswith('a<span class="odd">\\')
    assert shown.endswith("</span>b")


def test_markup_is_text() -> None:
    assert jackin.visible("<b>&\u202e\"'") == ('&lt;b&gt;&amp;<span class="odd">\\u202e</span>&quot;&#x27;')
    assert jackin.path("/a<b>/c") == "/<wbr>a&lt;b&gt;/<wbr>c"


def test_line_breaks_stay_only_where_they_may() -> None:
    assert jackin.visible("a\nb\tc", "lines") == "a\nb\tc"
    assert jackin.visible("a\nb") == 'a<span class="odd">\\x0a</span>b'
    assert jackin.visible("a\rb", "lines") == 'a<span class="odd">\\x0d</span>b'


@given(st.text(st.characters(exclude_categories=[]), max_size=60))
def test_no_text_hides_or_becomes_markup(text: str) -> None:
    for shown in (jackin.visible(text), jackin.path(text)):
        bare = shown.replace('<span class="odd">', "").replace("</span>", "").replace("<wbr>", "")
        assert not set("<>") & set(bare)
        assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]


def test_nothing_is_shown_of_nothing() -> None:
    assert jackin.visible(None) == ""
    assert jackin.visible(12) == "12"


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 kB"), (512 * 2**20, "512 MB"), (8 * 2**30, "8 GB"), (None, "–")],
)
def test_sizes(amount: int | None, words: str) -> None:
    assert jackin.size(amount) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (41, "41 s"), (60, "1 min"), (2820, "47 min"), (7800, "2 h 10 min"), (100800, "1 d 4 h")],
)
def test_spans(seconds: int, words: str) -> None:
    assert jackin.span_words(datetime.timedelta(seconds=seconds)) == words


def test_an_age_counts_on_in_the_browser() -> None:
    shown = jackin.age(timezone.now() - datetime.timedelta(minutes=3))
    assert "data-age" in shown
    assert ">3 min</time>" in shown
    assert jackin.age(None) == "–"


def test_how_long_it_took() -> None:
    start = timezone.now()
    assert jackin.took(start, start + datetime.timedelta(seconds=1.25)) == "1.2 s"
    assert jackin.took(start, start + datetime.timedelta(minutes=2)) == "2 min"
    assert jackin.took(None, None) == ""
    assert "data-age" in jackin.took(start, None)


def test_a_moment_is_said_as_briefly_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.datetime(2026, 3, 12, 15, 0, tzinfo=zoneinfo.ZoneInfo("UTC"))
    monkeypatch.setattr(timezone, "localdate", lambda: now.date())
    assert ">14:22</time>" in jackin.moment(now.replace(hour=14, minute=22))
    assert ">11 Mar 14:22</time>" in jackin.moment(now.replace(day=11, hour=14, minute=22))
    assert ">11 Mar 2024</time>" in jackin.moment(now.replace(year=2024, day=11))
    assert jackin.moment(None) == "–"


def test_a_state_is_form_and_word() -> None:
    assert jackin.state("running") == '<span class="state run">Running</span>'
    assert jackin.state("running", "operation") == '<span class="state work">Running</span>'
    assert jackin.state("failed") == '<span class="state fail">Failed</span>'
    assert jackin.state("<new>") == '<span class="state off">&lt;new&gt;</span>'
