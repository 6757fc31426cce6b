"""Reading pages in tests: fields with their values and errors, and what must never be in a page."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from typing import Any

from django.http import HttpResponseBase

Attributes = dict[str, str | None]
VOID = frozenset({"input", "meta", "link", "br", "hr", "img", "wbr"})


@dataclasses.dataclass
class Element:
    tag: str
    attributes: Attributes
    text: str = ""

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name) or ""

    def __contains__(self, name: str) -> bool:
        return name in self.attributes


class Page(HTMLParser):
    """All elements of a page in order; an element's text is that of everything inside."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if any(element.tag == tag for element in self._open):
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [e for e in self.elements if e.tag == tag and all(e[n.rstrip("_")] == v for n, v in attributes.items())]

    def field(self, name: str) -> str:
        """What a field holds: typed, chosen or checked."""
        for element in self.elements:
            if element["name"] != name:
                continue
            if element.tag == "textarea":
                return element.text.removeprefix("\n")
            if element.tag == "select":
                return self._chosen(element)
            if element["type"] != "radio":
                return element["value"]
            if "checked" in element:
                return element["value"]
        raise AssertionError(f"no field {name}")

    def _chosen(self, select: Element) -> str:
        after = self.elements[self.elements.index(select) + 1 :]
        return next(e["value"] for e in after if e.tag == "option" and "selected" in e)

    def error_of(self, name: str) -> str:
        """The message that the field called `name` points at."""
        fields = [e for e in self.elements if e["name"] == name]
        assert fields, f"no field {name}"
        ids = fields[0]["aria-describedby"].split()
        texts = [e.text for e in self.elements if e["id"] in ids and e["id"].endswith("_error")]
        return re.sub(r"\s+", " ", " ".join(texts)).strip()


def page_of(response: HttpResponseBase) -> Page:
    return Page(html_of(response))


def html_of(response: Any) -> str:
    return str(response.content.decode())


def forbidden(html: str) -> list[str]:
    """What a strict content security policy would stop: inline script, style, handlers; foreign addresses."""
    found = []
    for element in Page(html).elements:
        if element.tag == "style" or (element.tag == "script" and "src" not in element):
            found.append(f"<{element.tag}>")
        for name, value in element.attributes.items():
            if name == "style" or name.startswith(("on", "hx-on")):
                found.append(f"{element.tag} {name}")
            if name in ("src", "href", "action") and re.match(r"(?i)\s*(javascript:|data:|//|https?:)", value or ""):
                found.append(f"{element.tag} {name}={value}")
    return found


def shown_on(page: str) -> str:
    """The hidden field that says what the page of a purge showed."""
    found = re.search(r'name="shown" value="([0-9a-f]{64})"', page)
    assert found
    return found.group(1)
