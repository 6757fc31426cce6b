"""Programs that the host's set-up runs, and the lines that it shows while they run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agents.host.instance import MEMBERS, USERS

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SLOW_SECONDS = 2.0
SETPRIV = "/usr/bin/setpriv"
_WITH_UMASK = ("/bin/sh", "-c")

# What a download may need to know of this machine; nothing else of root's environment reaches another account.
CA_ENV = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
NETWORK_ENV_PREFIXES = ("PIP_", "npm_config_", "NPM_CONFIG_")
PROXY_ENV = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"})


class HostError(Exception):
    """Something about this machine is not as it must be; `message` says what, `remedy` what to do."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


def visible(text: str) -> str:
    """`text` on one line with everything that could steer a terminal written out."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """One line for the person at the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Show `what`, with the time it took, if the block takes longer than 2 s; every 15 s a sign of life."""
    began = time.monotonic()
    done = threading.Event()

    def watch() -> None:
        if not done.wait(SLOW_SECONDS):
            say(f"  {what} …")
        while not done.wait(15):
            say(f"  {what} … {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    failed = ""
    try:
        yield
    except BaseException:
        failed = "failed after "
        raise
    finally:
        done.set()
        thread.join()
        took = time.monotonic() - began
        if took > SLOW_SECONDS:
            say(f"  {what}: {failed}{took:.1f} s")


def base_env() -> dict[str, str]:
    """An environment with nothing of the caller's in it but proxies."""
    proxies = {name: value for name, value in os.environ.items() if name in PROXY_ENV}
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/", **proxies}


def network_env(extra_ca: Path | None = None) -> dict[str, str]:
    """`base_env` and what pip and npm need to reach their registries through this machine's network."""
    env = base_env()
    if extra_ca is not None:
        env |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"), str(extra_ca))
    for name, value in os.environ.items():
        if name in CA_ENV or name.startswith(NETWORK_ENV_PREFIXES):
            env[name] = value
    return env


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    cwd: Path | str = "/",
    timeout: float | None = None,
    pass_fds: Sequence[int] = (),
) -> str:
    """Run a program to its end and return what it printed. Raises HostError with its last words."""
    done = attempt(argv, env=env, text=text, cwd=cwd, timeout=timeout, pass_fds=pass_fds)
    if done.returncode:
        words = [visible(line) for line in (done.stderr or done.stdout).strip().splitlines()[-12:]]
        raise HostError(f"{argv[0]} ended with {done.returncode}: {' '.join(argv)}\n  " + "\n  ".join(words))
    return done.stdout


def attempt(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    cwd: Path | str = "/",
    timeout: float | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Like `run`, but a failure of the program is an answer. Raises HostError if it is missing or takes too long."""
    try:
        return subprocess.run(
            list(argv),
            env=dict(base_env() if env is None else env),
            input="" if text is None else text,
            cwd=cwd,
            timeout=timeout,
            pass_fds=tuple(pass_fds),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=drops_root(argv),
        )
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]} is not installed.") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{argv[0]} did not end within {timeout:.0f} s: {' '.join(argv)}") from error


def drops_root(argv: Sequence[str]) -> bool:
    """Whether `argv` (as `as_user` makes it) runs as another account: then it gets a session of its own.

    In the session of root's terminal it could open that as /dev/tty and, with TIOCSTI, type what root's shell runs.
    """
    return SETPRIV in argv[: len(_WITH_UMASK) + 3]


def _groups(user: str) -> list[str]:
    """A person's groups come from the user database, which may be remote and hang; those of the service are known."""
    if user not in USERS:
        return ["--init-groups"]
    found = [group for group, members in MEMBERS.items() if user in members]
    return [f"--groups={','.join(found)}"] if found else ["--clear-groups"]


def as_user(user: str, argv: Sequence[str], *, umask: int | None = None, group: str = "") -> list[str]:
    """`argv` run for good as `user`: its groups, no capability, no way to gain rights; ends with its parent.

    `group` is its primary group where that has another name than the account.
    """
    command = [
        SETPRIV,
        f"--reuid={user}",
        f"--regid={group or user}",
        *_groups(user),
        "--no-new-privs",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--pdeathsig=TERM",
        *argv,
    ]
    if umask is None:
        return command
    return [*_WITH_UMASK, f'umask {umask:03o} && exec "$@"', "sh", *command]
