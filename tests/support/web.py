"""A person at the pages without a browser: log in, launch, wait, eject, by the same forms and addresses."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence

import requests

from tests.support.service import Service, wait_for

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
STATE = re.compile(r'<span class="state [a-z]+">([^<]+)</span>')

Mount = tuple[str, str, str]  # source, destination, mode


class WebClient:
    """One browser session; `user` is None for a stranger who is not logged in."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.http = requests.Session()
        self.http.trust_env = False

    def get(self, path: str) -> requests.Response:
        """A page; redirects are followed."""
        return self.http.get(self.service.url + path, timeout=30)

    def post(self, path: str, data: dict[str, str], *, page: str | None = None) -> requests.Response:
        """Post a form with the token of `page` (default: the same address)."""
        found = TOKEN.search(self.get(page or path).text)
        token = found.group(1) if found else ""
        headers = {"Origin": self.service.url, "Referer": self.service.url + path}
        return self.http.post(
            self.service.url + path, data={**data, "csrfmiddlewaretoken": token}, headers=headers, timeout=60
        )

    def log_in(self, user: str, password: str) -> None:
        """Log in with a password of one's own."""
        answer = self.post("/login", {"username": user, "password": password})
        assert answer.status_code == 200, answer.text
        assert "/login" not in urllib.parse.urlsplit(answer.url).path, answer.text

    def choose_password(self, user: str, once: str, password: str) -> None:
        """Log in with a one-time password and choose one's own."""
        self.log_in(user, once)
        answer = self.post("/password", {"new_password1": password, "new_password2": password})
        assert answer.status_code == 200, answer.text
        assert "/password" not in urllib.parse.urlsplit(answer.url).path, answer.text

    def launch_form(
        self, mounts: Sequence[Mount], *, runtime: str = "shell", environment: str = "", **changed: str
    ) -> requests.Response:
        """Send the launch form; the answer is the agent's page, or the form again with what is wrong."""
        data = {"class_slug": "agent-smith", "runtime": runtime, "cpus": "1", "memory_gb": "2", "pids": "512"}
        data |= {"environment": environment, "mounts-count": str(len(mounts)), **changed}
        for index, (source, destination, mode) in enumerate(mounts):
            data |= {f"mounts-{index}-source": source, f"mounts-{index}-destination": destination}
            data[f"mounts-{index}-mode"] = mode
        return self.post("/launch", data)

    def launch(self, mounts: Sequence[Mount], **options: str) -> str:
        """Launch and wait until it runs; returns the agent's key."""
        answer = self.launch_form(mounts, **options)
        found = re.search(r"/agents/([0-9a-f]{32})", answer.url)
        assert found, f"not launched: {answer.status_code} {answer.url}\n{answer.text}"
        key = found.group(1)
        wait_for(f"agent {key} to run", lambda: self._settled(key) == "Running", seconds=300)
        return key

    def _settled(self, key: str) -> str:
        state = self.state(key)
        assert state not in {"Failed", "Ended"}, self.get(f"/agents/{key}").text
        return state

    def state(self, key: str) -> str:
        """The state word on the agent's page."""
        found = STATE.search(self.get(f"/agents/{key}").text)
        return found.group(1) if found else ""

    def eject(self, key: str) -> None:
        """Eject and wait until it has ended."""
        answer = self.post(f"/agents/{key}/eject", {}, page=f"/agents/{key}/eject")
        assert answer.status_code == 200, answer.text
        wait_for(f"agent {key} to end", lambda: self.state(key) in {"Ended", "Failed"}, seconds=60)
