"""What a failing live test leaves: status, logs and inspect of the containers concerned, without any secret."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

LOG_LINES = "80"
MOST = "8"
SECONDS = 20
HIDDEN = "(hidden)"
# What agents and the service itself may hold that no report of a test run should show.
_SECRET = re.compile(
    r"(?i)\b((?:[a-z0-9_]*(?:token|secret|password|passwd|api_?key|credential)[a-z0-9_]*)\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)"
    r"|\b(sk-[a-z]+-)[A-Za-z0-9_-]{8,}"
)


def redacted(value: Any) -> Any:
    """An inspect without the values of the environment; names stay, and so does everything that is no text."""
    if isinstance(value, dict):
        return {name: _environment(one) if name == "Env" else redacted(one) for name, one in value.items()}
    if isinstance(value, list):
        return [redacted(one) for one in value]
    return without_secrets(value) if isinstance(value, str) else value


def without_secrets(text: str) -> str:
    """`text` with what looks like a secret blotted out."""
    return _SECRET.sub(lambda found: f"{found[1] or found[3]}{HIDDEN}", text)


def _environment(lines: Any) -> Any:
    return [f"{str(line).partition('=')[0]}={HIDDEN}" for line in lines] if isinstance(lines, list) else lines


def of_containers(engine: str) -> str:
    """Status, logs and redacted inspect of the newest containers on the engine behind the socket `engine`.

    Never raises: it runs after a failure.
    """
    ids = _docker(engine, "ps", "-q", "--no-trunc", "--last", MOST).split()
    return "\n".join(_of_container(engine, one) for one in ids)


def _of_container(engine: str, container: str) -> str:
    try:
        inspect = json.loads(_docker(engine, "inspect", container))[0]
    except (ValueError, IndexError):
        return f"== container {container[:12]}: gone"
    name, state = str(inspect.get("Name", "")).lstrip("/"), inspect.get("State", {})
    logs = without_secrets(_docker(engine, "logs", "--tail", LOG_LINES, container))
    status = f"{state.get('Status')}, exit code {state.get('ExitCode')}, {state.get('Error') or 'no error'}"
    shown = json.dumps(redacted(inspect), indent=1)
    return f"== container {name}: {status}\n-- logs\n{logs}\n-- inspect\n{shown}"


def _docker(engine: str, *words: str) -> str:
    try:
        done = subprocess.run(
            ["docker", "-H", f"unix://{engine}", *words],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"docker {words[0]}: {error}"
    return done.stdout + done.stderr
