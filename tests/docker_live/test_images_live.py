"""The images on a real engine: built once, and good for the work that agents do in them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import pytest

from agents.engine import images
from agents.engine.types import Limits
from tests.support.engine_kit import BASE, RealKit, read_until, real_kit

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUNDLES = ("JACKIN_EXTRA_CA", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")


@pytest.fixture(scope="module")
def extra_ca() -> bytes | None:
    """The authorities of the network that these tests run in, as `./scripts/serve --extra-ca` would get them."""
    named = next((os.environ[name] for name in BUNDLES if os.environ.get(name)), "")
    return pathlib.Path(named).read_bytes() if named else None


@pytest.fixture(scope="module")
def kit(engine_socket: str) -> Iterator[RealKit]:
    with real_kit(engine_socket) as found:
        yield found


@pytest.fixture(scope="module")
def tags(kit: RealKit, extra_ca: bytes | None) -> dict[str, str]:
    """Runtime → tag, all of them built."""
    return images.ensure_images(kit.engine, ROOT / "docker", extra_ca=extra_ca, log=print)


def inside(kit: RealKit, image: str, name: str, script: str, *, secrets: bytes = b"", minutes: float = 5) -> str:
    """Launch `shell` as an agent is launched, run `script` in its own terminal, and say what that printed."""
    kit.image = image
    spec = kit.launch_spec(name, limits=Limits(cpus=2.0, memory=2 * 1024**3, pids=1024))
    spec = dataclasses.replace(spec, argv=("/jackin/entrypoint", "shell"), env={"JACKIN_GIT_NAME": "Alice"})
    hand_over(spec.staging.secrets, secrets)
    project = pathlib.Path(spec.staging.mounts[0].staged)
    (project / "script").write_text(f"{{ {script}\n}} 2>&1\necho exit=$?\n")
    made = kit.engine.create_container(spec)
    with kit.engine.attach(made) as stream:
        kit.engine.start(made)
        kit.engine.resize(made, rows=40, columns=200)
        kit.open_gate(spec)
        read_until(stream, b"\x1b[?2004h")  # the shell waits for a line
        stream.sendall(b"clear; bash script; echo THE'-'END\n")
        said = read_until(stream, b"THE-END", seconds=minutes * 60).decode(errors="replace")
    kit.engine.remove_container(made)
    return said


def hand_over(folder: str, secrets: bytes) -> None:
    """Write the secrets as the broker does."""
    path = pathlib.Path(folder) / "env"
    path.write_bytes(secrets)
    os.chown(path, BASE + 1000, BASE + 1000)
    path.chmod(0o400)


def test_an_unchanged_relaunch_builds_nothing(kit: RealKit, tags: dict[str, str], extra_ca: bytes | None) -> None:
    before = {tag: kit.engine.image_id(tag) for tag in tags.values()}
    said: list[str] = []
    assert images.ensure_images(kit.engine, ROOT / "docker", extra_ca=extra_ca, log=said.append) == tags
    assert {tag: kit.engine.image_id(tag) for tag in tags.values()} == before
    assert said == []


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("apt", "sudo apt-get install -y -q cowsay && /usr/games/cowsay hello"),
        ("npm", "npm install -g is-number@7 && npm ls -g is-number && test -w ~/.local/lib/node_modules"),
        ("pip", "pip install six && python3 -c 'import six; print(six.__file__)'"),
        ("venv", "python3 -m venv /tmp/v && /tmp/v/bin/pip install -q six && /tmp/v/bin/python -c 'import six'"),
        ("sudo-npm", "sudo npm install -g is-odd@3 && test -d /usr/local/lib/node_modules/is-odd"),
    ],
)
def test_packages_can_be_installed(kit: RealKit, tags: dict[str, str], name: str, script: str) -> None:
    said = inside(kit, tags["shell"], f"pkg-{name}", f"set -e; {script}")
    assert "exit=0" in said, said


def test_the_tools_are_there(kit: RealKit, tags: dict[str, str]) -> None:
    tools = "git git-lfs gh docker docker-compose rg fd fzf jq yq tree zsh ssh sudo python3 pip node npm mise curl vim"
    script = f"for tool in {tools}; do command -v $tool >/dev/null || echo missing $tool; done; docker compose version"
    said = inside(kit, tags["shell"], "tools", script)
    assert "exit=0" in said, said
    assert "missing" not in said, said


def test_claude_code_is_there_and_its_version_is_the_one_named(kit: RealKit, tags: dict[str, str]) -> None:
    said = inside(kit, tags["claude"], "claude", "claude --version")
    wanted = (ROOT / "docker" / "runtime" / "install-claude").read_text().partition("version=")[2].split()[0]
    assert f"{wanted} (Claude Code)" in said, said


def test_who_and_where_an_agent_is(kit: RealKit, tags: dict[str, str]) -> None:
    said = inside(kit, tags["shell"], "who", "id; pwd; git config --global user.name; sudo id -u; umask; stty size")
    for expected in ("uid=1000(claude) gid=1000(claude)", "2001", "/workspace/project", "Alice", "0022", "40 200"):
        assert expected in said, said


def test_secrets_become_environment_and_their_file_goes(kit: RealKit, tags: dict[str, str]) -> None:
    script = 'echo "<$TOKEN>"; ls -A /run/jackin/secrets; tr "\\0" " " </proc/1/cmdline'
    said = inside(kit, tags["shell"], "secrets", script, secrets=b'TOKEN=it\'s "so"\0OTHER=x\0')
    assert '<it\'s "so">' in said, said
    assert "/run/jackin/secrets/env" not in said
    assert said.count("it's") == 1, said


def test_orphans_are_reaped(kit: RealKit, tags: dict[str, str]) -> None:
    script = "bash -c '(sleep 0.1 &) ; exit'; until ! pgrep -x sleep; do :; done; ps -A -o stat= | grep -c Z"
    assert "\n0\r\n" in inside(kit, tags["shell"], "orphans", script).replace("\r\r", "\r")


def test_a_project_that_cannot_be_entered_is_explained(kit: RealKit, tags: dict[str, str]) -> None:
    kit.image = tags["shell"]
    spec = kit.launch_spec("shut", workdir="/workspace/nowhere", argv=("/jackin/entrypoint", "shell"))
    made = kit.engine.create_container(spec)
    with kit.engine.attach(made) as stream:
        kit.engine.start(made)
        kit.open_gate(spec)
        said = read_until(stream, b"Press Enter")
        assert b"/workspace/nowhere cannot be entered" in said
        stream.sendall(b"\n")
        stream.settimeout(20)
        while stream.recv(4096):
            pass
    found = kit.engine.container(made)
    assert found is not None
    assert found.exit_code == 70


@pytest.mark.parametrize("runtime", ["shell", "claude"])
def test_the_image_itself_names_no_authority(kit: RealKit, tags: dict[str, str], runtime: str) -> None:
    with kit.engine._pool.client(tags[runtime]) as client:
        environment = client.images.get(tags[runtime]).attrs["Config"]["Env"]
    assert [entry for entry in environment if "CERT" in entry or "CA_" in entry or "SSL" in entry] == []


def test_without_authorities_nothing_is_added_and_nothing_is_set(
    kit: RealKit, tags: dict[str, str], extra_ca: bytes | None
) -> None:
    ask = "echo env | env -i HOME=$HOME PATH=$PATH JACKIN_WORKDIR=/ /jackin/entrypoint shell | grep -c CERT"
    script = f"""
        echo with=$({ask})
        sudo rm -rf /usr/local/share/ca-certificates/jackin-extra
        before=$(sha256sum /etc/ssl/certs/ca-certificates.crt)
        mkdir /tmp/none; touch /tmp/none/README
        sudo trust-extra-ca /tmp/none
        echo added=$(ls /usr/local/share/ca-certificates | wc -l)
        [ "$before" = "$(sha256sum /etc/ssl/certs/ca-certificates.crt)" ] && echo unchanged
        echo without=$({ask})
    """
    said = inside(kit, tags["shell"], "no-ca", script)
    assert "added=0" in said, said
    assert "unchanged" in said, said
    assert "without=0" in said, said
    assert ("with=3" if extra_ca else "with=0") in said, said
