"""Templates and front-end sources: nothing inline, no foreign address, every icon and entry is there."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted((ROOT / "static" / "src").glob("*.js"))
STYLES = sorted((ROOT / "static" / "css").glob("*.css"))

INLINE = {
    "a style attribute": r"<[^>{]*\sstyle\s*=",
    "a style element": r"<style\b",
    "a script with content": r"<script(?![^>]*\bsrc=)[^>]*>",
    "a handler": r"<[^>{]*\son[a-z]+\s*=",
    "htmx's handler": r"\bhx-on\b",
    "a script address": r"javascript:",
    "a foreign address": r"(?:src|href|action)\s*=\s*[\"'](?:https?:)?//",
    "unescaped text": r"\|\s*safe\b|autoescape\s+off",
}


def name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("template", TEMPLATES, ids=name)
@pytest.mark.parametrize("what", INLINE)
def test_no_template_has(template: pathlib.Path, what: str) -> None:
    assert re.findall(INLINE[what], template.read_text(), re.IGNORECASE) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_no_script_evaluates_text_or_asks_elsewhere(script: pathlib.Path) -> None:
    text = script.read_text()
    assert re.findall(r"\beval\(|new Function|\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write", text) == []
    assert re.findall(r"[\"'`](?:https?|wss?)://", text) == []


@pytest.mark.parametrize("style", [s for s in STYLES if s.name != "tokens.css"], ids=name)
def test_colours_are_named_in_one_place(style: pathlib.Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", style.read_text(), flags=re.DOTALL)
    assert re.findall(r":[^;{}]*(?:#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\()", text) == []


@pytest.mark.parametrize("path", [*STYLES, *SCRIPTS, *TEMPLATES], ids=name)
def test_no_file_is_longer_than_one_can_read(path: pathlib.Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_every_icon_of_a_template_is_in_the_sprite_and_no_other() -> None:
    used = {icon for t in TEMPLATES for icon in re.findall(r"{%\s*icon \"([a-z0-9-]+)\"", t.read_text())}
    assert used == set(json.loads((ROOT / "static" / "icons.json").read_text()))


def test_every_static_file_of_a_template_comes_out_of_the_build() -> None:
    used = {path for t in TEMPLATES for path in re.findall(r"{% static ['\"]([^'\"]+)['\"]", t.read_text())}
    build = (ROOT / "scripts" / "build-front-end.mjs").read_text()
    entries = re.findall(r"\"(?:src|css)/([a-z-]+\.(?:js|css))\"", build)
    images = [path.name for path in (ROOT / "static" / "img").iterdir()]
    assert used <= {f"dist/{made}" for made in [*entries, *images, "icons.svg"]}


def test_the_lock_names_no_registry_and_has_a_digest_for_each_package() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    named = {path: entry for path, entry in packages.items() if path}
    assert named
    assert [path for path, entry in named.items() if "resolved" in entry] == []
    assert [path for path, entry in named.items() if not entry.get("integrity", "").startswith("sha512-")] == []
