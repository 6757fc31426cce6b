"""Chromium against the running service; what a failing test saw is kept in test-results/."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.fixtures import RESULTS
from tests.support.service import Service

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# a part that is restarted on purpose drops connections, and a refused form answers 422; everything else is a defect
EXPECTED = re.compile(r"WebSocket|ERR_CONNECTION|ERR_EMPTY_RESPONSE|status of (422|429|404|403|5\d\d)|^htmx:")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium of Debian's for the whole run."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield found
        found.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Leave the outcome at the test, so that fixtures can see a failure."""
    report = yield
    setattr(item, f"report_{report.when}", report)  # type: ignore[attr-defined]
    return report  # type: ignore[return-value]


@pytest.fixture
def context(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A fresh browser profile; no page may report an error on the console."""
    found = browser.new_context(base_url=service.url, viewport={"width": 1280, "height": 800})
    found.set_default_timeout(20_000)
    problems: list[str] = []
    found.on("weberror", lambda error: problems.append(str(error.error)))
    found.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield found
    reports = [getattr(request.node, f"report_{when}", None) for when in ("setup", "call")]
    if any(report is not None and report.failed for report in reports):
        keep(found.pages, request.node.name)
    found.close()
    assert [problem for problem in problems if not EXPECTED.search(problem)] == []


def keep(pages: list[Page], name: str) -> None:
    """Screenshot and source of each page of a failed test."""
    RESULTS.mkdir(exist_ok=True)
    for number, page in enumerate(pages):
        stem = RESULTS / f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', name)}-{number}"
        page.screenshot(path=stem.with_suffix(".png"))
        stem.with_suffix(".html").write_text(page.content())


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """One page in a fresh profile."""
    return context.new_page()
