"""The command `serve` as a person meets it: who may start it, the first login, Ctrl-C, a second start, --eject."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess

from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import connected, launch, log_in, terminal_text, type_line
from tests.support.agents import container_of
from tests.support.fixtures import Person
from tests.support.machine import docker, run
from tests.support.service import Service, wait_for


def test_without_root_it_says_what_it_needs_and_why(service: Service) -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(service.clone / "scripts" / "serve")],
        capture_output=True,
        text=True,
        check=False,
    )
    # the clone lies below a directory that only root may enter; from a readable place the command speaks for itself
    if "Permission denied" in done.stderr:
        copy = pathlib.Path(run("mktemp", "-d", "/tmp/jkt-serve-XXXXXX").strip())
        copy.chmod(0o755)
        (copy / "serve").write_bytes((service.clone / "scripts" / "serve").read_bytes())
        (copy / "serve").chmod(0o755)
        line = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(copy / "serve")]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        run("rm", "-rf", str(copy))
    assert done.returncode == 2
    assert "needs root, because" in done.stderr


def test_a_second_supervisor_and_wrong_words_are_refused(service: Service) -> None:
    for words, code, said in (
        (["--port", "x"], 2, "--port"),
        ([], 1, "runs already"),
        (["--nonsense"], 2, "--nonsense"),
    ):
        done = subprocess.run(
            ["./scripts/serve", *words], cwd=service.clone, env=service.environment, capture_output=True, text=True
        )
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


def test_the_first_administrator_logs_in_once(service: Service, page: Page, browser: Browser) -> None:
    file = service.instance.first_password_file
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o600)
    password = file.read_text().strip()
    assert password not in service.log.read_text()
    page.goto("/")
    page.get_by_label("Username").fill("operator")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Choose your own password")).to_be_visible()
    wait_for("the file with the first password to go", lambda: not file.exists())
    page.goto("/launch")
    expect(page.get_by_role("heading", name="Choose your own password")).to_be_visible()  # nothing else opens

    other = browser.new_context(base_url=service.url).new_page()
    other.goto("/login")
    other.get_by_label("Username").fill("operator")
    other.get_by_label("Password").fill(password)
    other.get_by_role("button", name="Log in").click()
    expect(other.get_by_role("alert")).to_be_visible()  # it worked once
    other.context.close()

    for label in ("New password", "The new password again"):
        page.get_by_label(label, exact=True).fill("a-password-of-my-own")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("heading", name="Agents", exact=True)).to_be_visible()
    launch(page, pathlib.Path("/home/operator/sample-project"), runtime="shell")
    type_line(page, "cat README.md; git log --oneline | cat")
    terminal_text(page, "Start a sample project")
    eject(page)


def eject(page: Page) -> None:
    """Press Eject and confirm."""
    page.get_by_role("main").get_by_role("link", name=re.compile("Eject")).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Eject").click()
    expect(page.get_by_text("Ended").first).to_be_visible()


def test_agents_outlive_the_service_and_its_second_start_is_quick(service: Service, page: Page, owner: Person) -> None:
    project = owner.home / "long-lived"
    run("install", "-d", "-o", owner.account, "-g", owner.account, "-m", "0755", str(project))
    log_in(page, owner)
    launch(page, project, runtime="shell")
    key = page.url.rsplit("/", 1)[-1]
    type_line(page, "(while :; do date +%s.%N > alive; sleep 0.2; done) & echo started-$((1+1))")
    terminal_text(page, "started-2")
    assert service.stop() == 0

    beat = project / "alive"
    before = beat.read_text()
    wait_for("the agent to go on without the service", lambda: beat.read_text() not in ("", before))
    assert quickest_start(service) < 10, service.tail()
    container = container_of(service.instance, key)
    assert container

    connected(page)
    type_line(page, "echo again-$((20+22))")
    terminal_text(page, "again-42")
    terminal_text(page, "started-2")
    eject(page)
    assert docker(service.instance, "ps", "-aq", "--no-trunc", "--filter", f"id={container}") == ""


def quickest_start(service: Service) -> float:
    """Seconds until it is ready; tried again when the machine was busy with something else."""
    seconds = service.start("--insecure-http")
    for _ in range(2):
        if seconds >= 10:
            service.stop()
            seconds = service.start("--insecure-http")
    return seconds


def test_eject_takes_the_agents_along(service: Service, page: Page, owner: Person) -> None:
    project = owner.home / "short-lived"
    run("install", "-d", "-o", owner.account, "-g", owner.account, "-m", "0755", str(project))
    service.stop()
    service.start("--insecure-http", "--eject")
    log_in(page, owner)
    launch(page, project, runtime="shell")
    service.stop()
    service.start("--insecure-http")
    assert docker(service.instance, "ps", "-aq") == ""
    page.reload()
    expect(page.get_by_text("Ended").first).to_be_visible()


def test_the_doctor_finds_nothing_wrong(service: Service) -> None:
    done = service.manage("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.dumps(report)) > 100
