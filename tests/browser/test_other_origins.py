"""Pages of another port and of other names, in the browser of somebody who is logged in: they get and do nothing."""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.conftest import FLAGS
from tests.browser.hostile_scripts import FETCHES, INJECTED, LOADS, OPENED, SOCKET
from tests.browser.pages import connected, log_in, terminal_text, type_line
from tests.support.fixtures import Person, running_agent
from tests.support.hostile import HostileServer, connecting_as, hostile_server
from tests.support.service import Service
from tests.support.web import WebClient

OTHER_NAME = "evil.test"  # another site
REBOUND = "rebound.test"  # a name of the attacker's that points to this host: the page may ask our port
NAMES = ("127.0.0.1", OTHER_NAME)
HOSTILE_NAME = "<img src=x onerror=hacked=1><script>hacked=1</script>"


@pytest.fixture(scope="module")
def chromium(browser: Browser) -> Iterator[Browser]:
    """A browser for which the attacker's names point to this host."""
    names = ",".join(f"MAP {name} 127.0.0.1" for name in (OTHER_NAME, REBOUND))
    flags = [*FLAGS, f"--host-resolver-rules={names}"]
    found = browser.browser_type.launch(executable_path="/usr/bin/chromium", args=flags)
    yield found
    found.close()


@pytest.fixture(scope="module")
def agent(service: Service, owner: Person) -> Iterator[str]:
    """A running agent of alice's on a project with a hostile name; its key."""
    path = owner.directory(HOSTILE_NAME.replace("/", "∕"), mode="0700")
    with running_agent(service, owner, path, "/workspace/project") as key:
        yield key


@pytest.fixture
def hostile() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def victim(chromium: Browser, service: Service, owner: Person) -> Iterator[BrowserContext]:
    """A profile in which alice is logged in; consoles are full of refusals here, so nobody looks at them."""
    found = chromium.new_context(base_url=service.url)
    found.set_default_timeout(20_000)
    page = found.new_page()
    log_in(page, owner)
    page.close()
    yield found
    found.close()


def still_logged_in(victim: BrowserContext) -> bool:
    page = victim.new_page()
    page.goto("/account")
    name = page.locator("main").inner_text()
    page.close()
    return "alice" in name


def ours(victim: BrowserContext, service: Service, kind: str) -> dict[str, str]:
    """Our cookie whose name ends with `kind`."""
    return next(dict(one) for one in victim.cookies(service.url) if str(one["name"]).endswith(kind))  # type: ignore[call-overload]


@pytest.mark.parametrize("host", NAMES)
def test_a_form_of_another_origin_does_nothing(
    service: Service, victim: BrowserContext, hostile: HostileServer, agent: str, owner: Person, host: str
) -> None:
    """Though it sends alice's cookies, and a token that the attacker's server has planted and knows."""
    name = ours(victim, service, "-csrf")["name"]
    planted = "a" * 32
    hostile.cookies = [f"{name}={planted}; Path=/"]
    fields = {"csrfmiddlewaretoken": planted, "username": "bob", "password": "x", "new_password1": "y" * 20}
    inputs = "".join(f"<input name='{key}' value='{value}'>" for key, value in fields.items())
    sent: list[str] = []
    for path in ("/launch", f"/agents/{agent}/eject", "/password", "/login", "/logout"):
        hostile.page = f"<form method=post action='{service.url}{path}'>{inputs}</form>"
        page = victim.new_page()
        page.goto(hostile.address(host))
        with page.expect_navigation(url=f"{service.url}{path}") as answered:
            page.evaluate("document.forms[0].submit()")
        assert answered.value.status == 403, path
        assert answered.value.request.method == "POST"
        sent.append(str(answered.value.request.all_headers()))
        page.close()
    cookie = ours(victim, service, "-session")["value"]
    assert [cookie in headers for headers in sent[:4]] == [host == "127.0.0.1"] * 4, "SameSite knows no ports"
    assert still_logged_in(victim)
    web = WebClient(service)
    web.log_in(owner.name, owner.password)
    assert web.state(agent) == "Running"


@pytest.mark.parametrize("host", NAMES)
def test_a_script_of_another_origin_reads_nothing(
    service: Service, victim: BrowserContext, hostile: HostileServer, agent: str, host: str
) -> None:
    page = victim.new_page()
    page.goto(hostile.address(host))
    for path in ("/", f"/agents/{agent}", "/account", "/login"):
        tried = page.evaluate(FETCHES, service.url + path)
        assert set(tried.values()) == {"failed"}, (path, tried)
    assert page.evaluate(FETCHES, hostile.address(host))["simple"].startswith("read"), "the script itself works"
    style = re.search(r'href="(/static/[^"]+\.css)"', page.request.get(f"{service.url}/login").text())
    script = re.search(r'src="(/static/[^"]+\.js)"', page.request.get(f"{service.url}/login").text())
    assert style
    assert script
    for tag, attribute, path in (
        ("script", "src", "/"),
        ("script", "src", f"/agents/{agent}"),
        ("script", "src", script[1]),
        ("img", "src", "/static/dist/favicon.svg"),
    ):
        assert page.evaluate(LOADS, [tag, attribute, service.url + path]) == "failed", path
    worker = "(url) => navigator.serviceWorker.register(url, {scope: '/'}).then(() => 'registered', (e) => e.name)"
    assert page.evaluate("'serviceWorker' in navigator") is (host == "127.0.0.1")
    if host == "127.0.0.1":
        assert page.evaluate(worker, service.url + script[1]) == "SecurityError"


@pytest.mark.parametrize("host", NAMES)
def test_a_page_of_another_origin_shows_none_of_ours_in_itself(
    service: Service, victim: BrowserContext, hostile: HostileServer, agent: str, host: str
) -> None:
    places = [f"{service.url}/", f"{service.url}/agents/{agent}/eject", f"{service.url}/login"]
    own = hostile.address(host) + "inner"
    for url in [*places, own]:
        hostile.page = ""
        page = victim.new_page()
        page.goto(hostile.address(host))
        for tag, attribute in (("iframe", "src"), ("object", "data"), ("embed", "src")):
            page.evaluate(LOADS, [tag, attribute, url])
        shown = [frame for frame in page.frames[1:] if "hostile" in frame.title() or "jackin" in frame.content()]
        assert len(shown) == (3 if url == own else 0), url
        page.close()


@pytest.mark.parametrize("host", NAMES)
def test_a_window_that_another_origin_opens_is_out_of_its_hands(
    service: Service, victim: BrowserContext, hostile: HostileServer, host: str
) -> None:
    page = victim.new_page()
    page.goto(hostile.address(host))
    with victim.expect_page() as opened:
        result = page.evaluate(OPENED, f"{service.url}/account")
    assert result == "severed"
    expect(opened.value.get_by_role("heading").first).to_be_visible()
    assert opened.value.evaluate("window.opener") is None
    assert page.evaluate(OPENED, hostile.address(host)) == "held", "a page of its own it can hold"


@pytest.mark.parametrize("host", NAMES)
def test_a_page_of_another_origin_opens_no_terminal(
    service: Service, victim: BrowserContext, hostile: HostileServer, agent: str, host: str
) -> None:
    address = f"ws{service.url.removeprefix('http')}/ws/agents/{agent}/terminal?rows=24&columns=80"
    page = victim.new_page()
    page.goto(hostile.address(host))
    assert page.evaluate(SOCKET, address) == "closed"
    page.goto(f"{service.url}/agents/{agent}")
    assert page.evaluate(SOCKET, address) == "open", "a page of ours does"


def test_a_name_that_is_bound_to_our_address_reaches_nothing(
    service: Service, victim: BrowserContext, agent: str
) -> None:
    there = f"http://{REBOUND}:{service.instance.port}"
    page = victim.new_page()
    static = re.search(r'src="(/static/[^"]+\.js)"', page.request.get(f"{service.url}/login").text())
    assert static
    assert page.request.get(service.url + static[1]).status == 200
    for path in ("/login", "/", f"/agents/{agent}", static[1], "/static/nothing", "/nothing"):
        answer = page.goto(there + path)
        assert answer is not None
        assert answer.status == 400, path
        assert "jackin-" not in page.content(), path
    address = f"ws://{REBOUND}:{service.instance.port}/ws/agents/{agent}/terminal"
    assert page.evaluate(SOCKET, address) == "closed"


def test_a_cookie_that_another_port_plants_for_a_path_is_refused_and_removed(
    service: Service, victim: BrowserContext, hostile: HostileServer, agent: str
) -> None:
    cookie = ours(victim, service, "-session")
    hostile.cookies = [f"{cookie['name']}={'x' * 32}; Path=/agents"]
    page = victim.new_page()
    page.goto(hostile.address())
    answer = page.goto(f"{service.url}/agents/{agent}")
    assert answer is not None
    assert answer.status == 400
    expect(page.get_by_text("two cookies of the same name")).to_be_visible()
    page.reload()
    connected(page)  # as alice, without another login
    assert [one["value"] for one in victim.cookies(page.url) if one["name"] == cookie["name"]] == [cookie["value"]]


def test_a_session_that_another_port_stole_or_planted_is_worth_nothing(
    service: Service, victim: BrowserContext, hostile: HostileServer, owner: Person, colleague: Person, agent: str
) -> None:
    """Cookies ignore ports, so bob's server gets alice's and can set his own; they are bound to the Unix account."""
    cookie = ours(victim, service, "-session")
    page = victim.new_page()
    page.goto(hostile.address())
    assert hostile.stolen(cookie["name"]) == cookie["value"], "it is sent there: the attack begins well"
    bob = WebClient(service)
    with connecting_as(pwd.getpwnam(colleague.account).pw_uid):
        for path in ("/", f"/agents/{agent}", "/account"):
            thief = WebClient(service)
            thief.http.cookies.set(cookie["name"], hostile.stolen(cookie["name"]))
            answer = thief.get(path)
            assert answer.status_code == 403
            assert agent not in answer.text
        bob.log_in(colleague.name, colleague.password)
    assert still_logged_in(victim), "what the thief tried has not ended it"
    hostile.cookies = [f"{cookie['name']}={bob.http.cookies[cookie['name']]}; Path=/"]
    page.goto(hostile.address())
    answered = page.goto(f"{service.url}/launch")
    assert answered is not None
    assert answered.status == 403
    expect(page.get_by_text("made from another account of this machine")).to_be_visible()
    log_in(page, owner)
    assert still_logged_in(victim)


def test_no_inline_script_and_none_from_elsewhere_runs_on_our_pages(
    service: Service, victim: BrowserContext, agent: str
) -> None:
    page = victim.new_page()
    for path in ("/login", "/", f"/agents/{agent}"):
        page.goto(path)
        hacked, seen = page.evaluate(INJECTED)
        assert hacked == 0, path
        assert {"script-src-elem", "script-src-attr"} <= set(seen), path


def test_a_hostile_name_is_text_on_every_page(victim: BrowserContext, agent: str) -> None:
    page = victim.new_page()
    shown = 0
    for path in ("/", f"/agents/{agent}", f"/agents/{agent}/eject", "/operations", "/launch"):
        page.goto(path)
        assert page.evaluate("window.hacked ?? 0") == 0
        assert page.locator("img[src=x]").count() == 0
        shown += page.get_by_text("onerror=hacked").count()
    assert shown


def test_a_terminal_of_a_session_that_ends_elsewhere_closes_and_stays_closed(
    service: Service, victim: BrowserContext, owner: Person, agent: str
) -> None:
    page, other = victim.new_page(), victim.new_page()
    page.goto(f"/agents/{agent}")
    type_line(page, "echo before-$((20+22))")
    terminal_text(page, "before-42")
    other.goto("/account")
    other.get_by_role("button", name="Log out").first.click()
    expect(other).to_have_url(re.compile("/login"))
    # The terminal says so, or the page has gone to the login by then: whatever looks first.
    closed = page.get_by_text("you are logged out").or_(page.get_by_role("heading", name="Log in"))
    expect(closed).to_be_visible(timeout=10_000)
    page.reload()
    expect(page).to_have_url(re.compile("/login"))
