"""What goes into our images, and what makes them new."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from agents.engine import builds, images
from agents.engine.errors import BuildFailed, EngineError, NotFound
from agents.engine.fake import FakeEngine

DOCKER = pathlib.Path(__file__).resolve().parents[3] / "docker"


def certificate(letter: str) -> bytes:
    return f"-----BEGIN CERTIFICATE-----\n{letter * 64}\n-----END CERTIFICATE-----\n".encode()


@pytest.fixture
def docker_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of docker/ that a test may change."""
    return pathlib.Path(shutil.copytree(DOCKER, tmp_path / "docker"))


@pytest.fixture
def engine() -> FakeEngine:
    found = FakeEngine()
    found.images[images.BASE_TAG] = {}
    return found


def ensure(engine: FakeEngine, docker_dir: pathlib.Path, **changes: object) -> dict[str, str]:
    return images.ensure_images(engine, docker_dir, **{"extra_ca": None, "log": print, **changes})  # type: ignore[arg-type]


def test_all_three_are_built_once(engine: FakeEngine, docker_dir: pathlib.Path) -> None:
    tags = ensure(engine, docker_dir)
    assert set(tags) == {"claude", "shell"}
    assert engine.built[0] == images.CONSTRUCT_TAG
    assert engine.built[1].startswith("jackin/class-agent-smith:")
    assert set(engine.built[2:]) == set(tags.values())
    said: list[str] = []
    assert ensure(engine, docker_dir, log=said.append) == tags
    assert len(engine.built) == 4
    assert said == []


def test_one_runtime_builds_only_that(engine: FakeEngine, docker_dir: pathlib.Path) -> None:
    assert set(ensure(engine, docker_dir, runtimes=["shell"])) == {"shell"}
    assert len(engine.built) == 3


def test_a_changed_construct_makes_everything_new(engine: FakeEngine, docker_dir: pathlib.Path) -> None:
    first = ensure(engine, docker_dir)
    with (docker_dir / "construct" / "files" / "etc" / "pip.conf").open("a") as file:
        file.write("# changed\n")
    second = ensure(engine, docker_dir)
    assert not set(first.values()) & set(second.values())
    assert len(engine.built) == 8


def test_a_changed_installer_concerns_its_own_runtime(engine: FakeEngine, docker_dir: pathlib.Path) -> None:
    first = ensure(engine, docker_dir)
    with (docker_dir / "runtime" / "install-claude").open("a") as file:
        file.write("# changed\n")
    second = ensure(engine, docker_dir)
    assert first["shell"] == second["shell"]
    assert first["claude"] != second["claude"]


def test_a_new_base_makes_everything_new(engine: FakeEngine, docker_dir: pathlib.Path) -> None:
    first = ensure(engine, docker_dir)
    engine.images[images.BASE_TAG] = {"jackin.content": "newer"}
    assert not set(first.values()) & set(ensure(engine, docker_dir).values())


def test_a_published_construct_is_taken_as_it_is(engine: FakeEngine, docker_dir: pathlib.Path) -> None:
    engine.images[images.CONSTRUCT_TAG] = {}
    ensure(engine, docker_dir, published_construct=True)
    assert images.CONSTRUCT_TAG not in engine.built


def test_without_a_base_it_says_what_to_do(docker_dir: pathlib.Path) -> None:
    with pytest.raises(NotFound, match="jackin/base:trixie") as caught:
        ensure(FakeEngine(), docker_dir)
    assert "serve" in caught.value.remedy


def test_a_failing_build_is_passed_on(engine: FakeEngine, docker_dir: pathlib.Path) -> None:
    engine.hooks.fail_at("build_image", BuildFailed("no"))
    with pytest.raises(BuildFailed):
        ensure(engine, docker_dir)
    assert engine.built == []


@pytest.mark.parametrize("name", ["nothing", "../construct", "agent-smith/..", "", "Agent-Smith"])
def test_unknown_classes(name: str) -> None:
    with pytest.raises(NotFound):
        images.class_spec(DOCKER, name)


def test_unknown_runtimes() -> None:
    with pytest.raises(NotFound, match="claude, shell"):
        images.derived_spec("x:1", "codex", docker_dir=DOCKER)


def test_without_extra_authorities_there_is_no_trace_of_any() -> None:
    spec = images.construct_spec(DOCKER, extra_ca=None)
    assert [name for name in spec.files if name.startswith("ca/")] == ["ca/README"]
    assert b"BEGIN CERTIFICATE" not in b"".join(spec.files.values())
    for name in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"):
        assert name.encode() not in spec.files["Dockerfile"]
        assert name not in spec.args


def test_extra_authorities_are_split_and_make_another_image() -> None:
    bundle = b"# comment\n" + certificate("A") + certificate("B").replace(b"\n", b"\r\n") + certificate("A")
    spec = images.construct_spec(DOCKER, extra_ca=bundle)
    assert spec.files["ca/0001.crt"] == certificate("A")
    assert spec.files["ca/0002.crt"] == certificate("B")
    assert "ca/0003.crt" not in spec.files
    assert spec.content != images.construct_spec(DOCKER, extra_ca=None).content


def test_a_file_without_certificates_is_refused() -> None:
    with pytest.raises(EngineError, match="JACKIN_EXTRA_CA"):
        images.construct_spec(DOCKER, extra_ca=b"not a certificate")


def test_content_tells_parts_apart() -> None:
    def digest(files: dict[str, bytes], *, executable: tuple[str, ...] = (), parent: str = "") -> str:
        return images.content_digest(files, args={}, executable=executable, parent=parent)

    assert digest({"a": b"bc"}) != digest({"ab": b"c"})
    assert digest({"a": b"x"}) != digest({"a": b"x"}, executable=("a",))
    assert digest({"a": b"x"}) != digest({"a": b"x"}, parent="p")
    assert digest({"a": b"1", "b": b"2"}) == digest({"b": b"2", "a": b"1"})


def test_the_context_is_the_same_bytes_each_time() -> None:
    spec = images.derived_spec("x:1", "shell", docker_dir=DOCKER)
    assert builds.context_tar(spec) == builds.context_tar(
        dataclasses.replace(spec, files=dict(reversed(list(spec.files.items()))))
    )
    with tarfile.open(fileobj=io.BytesIO(builds.context_tar(spec))) as archive:
        modes = {member.name: member.mode for member in archive}
        assert {member.uid for member in archive} == {0}
    assert modes["Dockerfile"] == 0o644
    assert modes["entrypoint"] == modes["install"] == 0o755
    with tarfile.open(
        fileobj=io.BytesIO(builds.context_tar(images.construct_spec(DOCKER, extra_ca=None)))
    ) as construct:
        assert {"files", "files/etc", "ca"} <= {member.name for member in construct if member.isdir()}
        assert {member.mode for member in construct if member.isdir()} == {0o755}
    assert "install-claude" not in modes


def test_a_rewritten_line_is_logged_as_what_it_became() -> None:
    assert builds._lines("one\n10%\r50%\r100%\nplain\r\nre") == ["one", "100%", "plain", "re"]


@pytest.mark.parametrize("name", ["entrypoint", "seed-claude", "secrets-to-exports", "install-claude", "install-shell"])
def test_scripts_are_plain_sh(name: str) -> None:
    subprocess.run(["/bin/sh", "-n", DOCKER / "runtime" / name], check=True)


def test_secrets_become_exports_whatever_they_hold(tmp_path: pathlib.Path) -> None:
    values = {
        "PLAIN": b"1",
        "QUOTED": b'it\'s `id` $(id) "x"\\',
        "LINES": b"a\nb\n",
        "EMPTY": b"",
        "BYTES": b"\xff\xfe",
    }
    entries = [name.encode() + b"=" + value for name, value in values.items()]
    given = b"".join(entry + b"\0" for entry in [*entries, b"BAD NAME=1", b"2ND=1", b"none"])
    script = 'eval "$("$0")"; env -0'
    done = subprocess.run(
        ["/bin/sh", "-c", script, DOCKER / "runtime" / "secrets-to-exports"],
        input=given,
        capture_output=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    seen = dict(entry.split(b"=", 1) for entry in done.stdout.split(b"\0") if entry)
    assert {name: seen[name.encode()] for name in values} == values
    assert not {b"BAD NAME", b"2ND", b"none"} & seen.keys()
