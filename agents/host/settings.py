"""What `serve` was asked for, and the environment that the processes of the service get from it."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from agents.host.instance import Instance
from agents.host.shell import HostError, base_env

NOTE = "settings.json"
CA_BYTES = 4 * 1024 * 1024
PASSED_ON = (  # as serve itself was given them
    "TZ",
    "JACKIN_LOG_LEVEL",
    "JACKIN_ALLOWED_HOSTS",
    "JACKIN_MAX_AGENTS",
    "JACKIN_KEEP_LOGS_DAYS",
    "JACKIN_KEEP_OPERATIONS_DAYS",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Kept in a root-only note, so that `manage.py` sees the same service as the processes that run."""

    instance: Instance
    host: str = "127.0.0.1"
    insecure_http: bool = False
    extra_ca: bool = False
    published_construct: bool = False

    @property
    def extra_ca_file(self) -> Path | None:
        """Our copy of the certificates that this machine's network needs, or None."""
        return self.instance.code / "extra-ca.pem" if self.extra_ca else None

    @property
    def url(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.instance.port}/"


def save(settings: Settings) -> None:
    """Write the note."""
    values = dataclasses.asdict(settings)
    values["instance"] = {"name": settings.instance.name, "port": settings.instance.port}
    write_private(settings.instance.host_dir / NOTE, json.dumps(values).encode())


def load(instance: Instance) -> Settings:
    """The note of the last start; without one the defaults."""
    try:
        values = json.loads((instance.host_dir / NOTE).read_text())
        return Settings(**(values | {"instance": Instance(**values["instance"])}))
    except (OSError, ValueError, TypeError, KeyError):
        return Settings(instance=instance)


def secret_key(instance: Instance) -> str:
    """The key that signs sessions; made once, kept with the keys."""
    file = instance.keys / "secret-key"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        write_private(file, (secrets.token_urlsafe(48) + "\n").encode())
        return file.read_text().strip()


def default_extra_ca(env: Mapping[str, str]) -> str:
    """The bundle that is meant when --extra-ca is not given.

    NODE_EXTRA_CA_CERTS counts too: who set it has said that this network needs more certificates than usual, and npm
    inside a build needs them as much as outside. An empty JACKIN_EXTRA_CA says: none.
    """
    return env.get("JACKIN_EXTRA_CA", env.get("NODE_EXTRA_CA_CERTS", ""))


def keep_extra_ca(instance: Instance, source: str) -> bool:
    """Copy the bundle at `source` to where builds and processes can read it; returns whether there is one."""
    target = instance.code / "extra-ca.pem"
    if not source:
        target.unlink(missing_ok=True)
        return False
    try:
        with Path(source).open("rb") as file:
            content = file.read(CA_BYTES + 1)
    except OSError as error:
        raise HostError(f"The certificates {source} cannot be read: {error.strerror}.") from error
    if b"-----BEGIN CERTIFICATE-----" not in content or len(content) > CA_BYTES:
        raise HostError(f"{source} holds no certificates in PEM form, or more than {CA_BYTES >> 20} MiB.")
    if not target.exists() or target.read_bytes() != content:
        draft = target.with_name(".extra-ca.new")
        draft.write_bytes(content)
        draft.chmod(0o644)
        draft.replace(target)
    return True


def child_env(settings: Settings, *, secret: bool) -> dict[str, str]:
    """The environment of one of our processes; `secret` adds the key that only web tier and runner need."""
    instance = settings.instance
    env = base_env() | {
        "JACKIN_INSTANCE": instance.name,
        "JACKIN_PORT": str(instance.port),
        "JACKIN_DATA": str(instance.data),
        "JACKIN_ENGINE_SOCKET": str(instance.engine_socket),
        "JACKIN_BROKER_SOCKET": str(instance.broker_socket),
        "JACKIN_GUARD_SOCKET": str(instance.guard_socket),
        "JACKIN_RUNNER_SOCKET": str(instance.runner_socket),
        "JACKIN_TERMINALS_SOCKET": str(instance.terminals_socket),
        "JACKIN_FEED_SOCKET": str(instance.feed_socket),
        "JACKIN_ARCHIVER_SOCKET": str(instance.archiver_socket),
        "JACKIN_DATABASE": str(instance.database),
        "JACKIN_INSECURE_HTTP": "1" if settings.insecure_http else "0",
        "JACKIN_EXTRA_CA": str(settings.extra_ca_file or ""),
        "JACKIN_PUBLISHED_CONSTRUCT": "1" if settings.published_construct else "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    env |= {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
    if secret:
        env["JACKIN_SECRET_KEY"] = secret_key(instance)
    return env


def write_private(file: Path, content: bytes) -> None:
    """Replace `file` (mode 0600) in one step."""
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as writer:
        writer.write(content)
    draft.replace(file)
