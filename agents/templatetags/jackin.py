"""What templates need: foreign text made visible, icons, sizes, ages and states in words."""

from __future__ import annotations

import datetime

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from agents.operations.text import visible as _visible
from agents.web import names

register = template.Library()

# word and form of each state; the classes are those of controls.css
_STATES = {
    "starting": ("work", "Starting"),
    "running": ("run", "Running"),
    "ejecting": ("work", "Ejecting"),
    "ended": ("off", "Ended"),
    "failed": ("fail", "Failed"),
    "queued": ("wait", "Queued"),
    "succeeded": ("run", "Done"),
    "cancelled": ("off", "Cancelled"),
}
_OPERATION_STATES = _STATES | {"running": ("work", "Running"), "succeeded": ("off", "Done")}


@register.filter
def visible(value: object, keep: str = "") -> SafeString:
    """Escaped text in which no character hides: what `text.visible` rewrites is set apart by a mark.

    `keep` names what may stay as it is: "lines" for line breaks and tabs.
    """
    stays = "\n\t" if keep == "lines" else ""
    return _marked("" if value is None else str(value), stays=stays)


register.filter("short_name", names.short_name)


@register.filter
def path(value: object) -> SafeString:
    """A path, visible, that may be broken after its slashes."""
    pieces = str(value).split("/")
    last = len(pieces) - 1
    return format_html_join(
        "", "{}{}", ((_marked(piece), mark_safe("/<wbr>") if n < last else "") for n, piece in enumerate(pieces))
    )


def _marked(text: str, *, stays: str = "") -> SafeString:
    if text.isprintable():
        shown = _visible(text, keep=stays)
        if shown == text:
            return format_html("{}", text)
    return format_html_join("", "{}", ((_character(c, stays),) for c in text))


def _character(character: str, stays: str) -> str:
    shown = _visible(character, keep=stays)
    return character if shown == character else format_html('<span class="odd">{}</span>', shown)


@register.simple_tag
def icon(name: str) -> SafeString:
    """A drawing of the sprite; decoration only, the words stand beside it."""
    return format_html('<svg class="i" aria-hidden="true"><use href="{}#{}"></use></svg>', _sprite(), name)


def _sprite() -> str:
    return static("dist/icons.svg")


@register.simple_tag
def state(value: str, kind: str = "agent") -> SafeString:
    """An agent's or an operation's state: form, word and colour."""
    table = _OPERATION_STATES if kind == "operation" else _STATES
    form, word = table.get(value, ("off", str(value).capitalize()))
    return format_html('<span class="state {}">{}</span>', form, word)


@register.filter
def size(value: int | float | None) -> str:
    """Bytes in words: 8 GB, 1.5 GB, 512 MB. GB is 1024³, as the limits of containers count."""
    if value is None:
        return "–"
    amount, unit = float(value), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, bigger
    return f"{amount:.1f}".rstrip("0").rstrip(".") + f" {unit}"


@register.filter
def number(value: float) -> str:
    """4.0 as 4, 1.5 as 1.5."""
    return f"{value:g}"


def span_words(span: datetime.timedelta) -> str:
    """41 s, 47 min, 2 h 10 min, 1 d 4 h: the words that static/src/ages.js uses too."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


@register.simple_tag
def age(since: datetime.datetime | None) -> str:
    """How long ago, counting on by itself in the browser."""
    if since is None:
        return "–"
    return format_html(
        '<time datetime="{}" title="{}" data-age>{}</time>',
        since.isoformat(),
        f"since {timezone.localtime(since):%Y-%m-%d %H:%M:%S}",
        span_words(timezone.now() - since),
    )


@register.simple_tag
def took(start: datetime.datetime | None, end: datetime.datetime | None) -> str:
    """How long something took; counting on while it has no end."""
    if start is None:
        return ""
    if end is None:
        return age(start)
    seconds = (end - start).total_seconds()
    return f"{max(0.0, seconds):.1f} s" if seconds < 60 else span_words(end - start)


@register.simple_tag
def moment(when: datetime.datetime | None, clock: str = "%H:%M") -> str:
    """A point in time: `14:22` today, `12 Mar 14:22` this year, `12 Mar 2024` before."""
    if when is None:
        return "–"
    local, today = timezone.localtime(when), timezone.localdate()
    if local.date() == today:
        words = f"{local:{clock}}"
    elif local.year == today.year:
        words = f"{local.day} {local:%b %H:%M}"
    else:
        words = f"{local.day} {local:%b %Y}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', when.isoformat(), f"{local:%Y-%m-%d %H:%M:%S %Z}", words
    )
