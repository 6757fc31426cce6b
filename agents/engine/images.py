"""What our images are built from: the construct, a class on it, the derived image with runtime and entrypoint."""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping

from agents.engine import naming
from agents.engine.api import Engine
from agents.engine.errors import EngineError, NotFound
from agents.engine.types import BuildSpec, Limits

BASE_TAG = "jackin/base:trixie"
CONSTRUCT_TAG = "projectjackin/construct:trixie"
RUNTIMES = ("claude", "shell")
BUILTIN_CLASS = "agent-smith"
BUILD_LIMITS = Limits(cpus=2.0, memory=4 * 1024**3, pids=4096)
CA_NOTE = b"The certificates of JACKIN_EXTRA_CA go here; none are set where this note is alone.\n"

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s.+?\s-----END CERTIFICATE-----", re.DOTALL)


def split_bundle(bundle: bytes) -> list[bytes]:
    """The certificates of a PEM bundle, each once, in order. Raises EngineError if there is none."""
    found = dict.fromkeys(match.group().replace(b"\r\n", b"\n") + b"\n" for match in _CERTIFICATE.finditer(bundle))
    if not found:
        raise EngineError(
            "The file of JACKIN_EXTRA_CA holds no certificate.",
            remedy="Give a PEM file with at least one BEGIN CERTIFICATE block, or unset JACKIN_EXTRA_CA.",
        )
    return list(found)


def content_digest(
    files: Mapping[str, bytes], *, args: Mapping[str, str], executable: Iterable[str], parent: str
) -> str:
    """SHA-256 of all that goes into a build; `parent` names the content of the image it stands on."""
    digest = hashlib.sha256(b"jackin build 1\0")

    def add(*parts: bytes) -> None:
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)

    add(b"parent", parent.encode())
    for name, value in sorted(args.items()):
        add(b"arg", name.encode(), value.encode())
    bits = frozenset(executable)
    for name, content in sorted(files.items()):
        add(b"executable" if name in bits else b"file", name.encode(), content)
    return digest.hexdigest()


def construct_spec(docker_dir: pathlib.Path, *, extra_ca: bytes | None, parent: str = "") -> BuildSpec:
    """The construct; `parent` is the id of the base image."""
    files, executable = _tree(docker_dir / "construct")
    files["ca/README"] = CA_NOTE
    for number, certificate in enumerate(split_bundle(extra_ca) if extra_ca else (), start=1):
        files[f"ca/{number:04}.crt"] = certificate
    args = {"BASE": BASE_TAG}
    return BuildSpec(
        tag=CONSTRUCT_TAG,
        files=files,
        executable=executable,
        content=content_digest(files, args=args, executable=executable, parent=parent),
        args=args,
        limits=BUILD_LIMITS,
    )


def class_spec(docker_dir: pathlib.Path, agent_class: str = BUILTIN_CLASS, *, parent: str = "") -> BuildSpec:
    """A built-in class; `parent` is the content of the construct. Raises NotFound for an unknown class."""
    folder = docker_dir / "classes" / agent_class
    if naming.slug(agent_class, most=40) != agent_class or not (folder / "Dockerfile").is_file():
        raise NotFound(f"There is no built-in agent class called {agent_class!r}.")
    files, executable = _tree(folder)
    content = content_digest(files, args={}, executable=executable, parent=parent)
    tag = naming.class_tag(agent_class, content)
    return BuildSpec(tag=tag, files=files, executable=executable, content=content, args={}, limits=BUILD_LIMITS)


def derived_spec(
    class_tag: str, runtime: str, *, docker_dir: pathlib.Path, agent_class: str = BUILTIN_CLASS, parent: str = ""
) -> BuildSpec:
    """Class image, runtime and entrypoint; `parent` is the content of the class image. Raises NotFound for an
    unknown runtime."""
    if runtime not in RUNTIMES:
        raise NotFound(f"There is no runtime called {runtime!r}; there are: {', '.join(RUNTIMES)}.")
    files, executable = _tree(docker_dir / "runtime")
    # Only this runtime's installer: a change of another's is no reason to build this one again.
    chosen = files[f"install-{runtime}"]
    files = {name: content for name, content in files.items() if not name.startswith("install-")}
    files["install"] = chosen
    executable = (executable & files.keys()) | {"install"}
    args = {"CLASS": class_tag}
    content = content_digest(files, args=args, executable=executable, parent=parent)
    tag = naming.derived_tag(agent_class, runtime, content)
    return BuildSpec(tag=tag, files=files, executable=executable, content=content, args=args, limits=BUILD_LIMITS)


def ensure_images(
    engine: Engine,
    docker_dir: pathlib.Path,
    *,
    runtimes: Iterable[str] = RUNTIMES,
    extra_ca: bytes | None,
    log: Callable[[str], None],
    agent_class: str = BUILTIN_CLASS,
    cancelled: Callable[[], bool] = lambda: False,
    published_construct: bool = False,
) -> dict[str, str]:
    """Build what is missing or out of date; returns runtime → tag of the derived image.

    Idempotent: with nothing to do it asks the engine a few questions and logs nothing. With `published_construct`
    the image under CONSTRUCT_TAG is taken as it is. Raises NotFound without a base image, BuildFailed, Cancelled.
    """

    def make(spec: BuildSpec) -> BuildSpec:
        if engine.image_content(spec.tag) != spec.content:
            log(f"Building {spec.tag}")
            engine.build_image(spec, log=log, cancelled=cancelled)
        return spec

    if published_construct:
        parent = _id_of(engine, CONSTRUCT_TAG)
    else:
        base = _id_of(engine, BASE_TAG)
        parent = make(construct_spec(docker_dir, extra_ca=extra_ca, parent=base)).content
    of_class = make(class_spec(docker_dir, agent_class, parent=parent))
    tags = {}
    for runtime in runtimes:
        spec = derived_spec(
            of_class.tag, runtime, docker_dir=docker_dir, agent_class=agent_class, parent=of_class.content
        )
        tags[runtime] = make(spec).tag
    return tags


def _id_of(engine: Engine, tag: str) -> str:
    found = engine.image_id(tag)
    if found is None:
        raise NotFound(
            f"The image {tag} does not exist.", remedy="Start the service with ./scripts/serve; it makes it."
        )
    return found


def _tree(folder: pathlib.Path) -> tuple[dict[str, bytes], frozenset[str]]:
    """All files below `folder` by their relative names, and which of them are executable."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    executable = frozenset(name for name, path in found.items() if path.stat().st_mode & 0o100)
    return {name: path.read_bytes() for name, path in found.items()}, executable
