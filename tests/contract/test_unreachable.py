"""An engine that does not answer: each method says so, in one way."""

from __future__ import annotations

import pathlib
import socket
import threading

import pytest

from agents.engine.client import DockerEngine
from agents.engine.errors import EngineUnreachable
from agents.engine.types import BuildSpec
from tests.support.engine_kit import LIMITS, FakeKit

SPEC = BuildSpec(tag="x:1", files={"Dockerfile": b"FROM x\n"}, content="0", args={}, limits=LIMITS)


def everything(engine: DockerEngine) -> None:
    """Call each method; all must raise EngineUnreachable."""
    launch = FakeKit().launch_spec()
    calls = [
        lambda: engine.info(),
        lambda: engine.image_id("x"),
        lambda: engine.image_content("x"),
        lambda: engine.build_image(SPEC, log=lambda line: None),
        lambda: engine.ensure_network("n", agent="a", operation="o"),
        lambda: engine.create_container(launch),
        lambda: engine.attach("c"),
        lambda: engine.start("c"),
        lambda: engine.resize("c", rows=1, columns=1),
        lambda: engine.container("c"),
        lambda: engine.containers(),
        lambda: engine.networks(),
        lambda: engine.logs("c", most=1),
        lambda: engine.stop("c", grace=1),
        lambda: engine.remove_container("c"),
        lambda: engine.remove_network("n"),
        lambda: next(engine.events(stop=lambda: False)),
    ]
    for call in calls:
        with pytest.raises(EngineUnreachable) as caught:
            call()
        assert caught.value.remedy


def test_no_socket(tmp_path: pathlib.Path) -> None:
    everything(DockerEngine(tmp_path / "none.sock", instance="x"))


def test_a_socket_that_hangs_up(tmp_path: pathlib.Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(16)

    def hang_up() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        everything(DockerEngine(tmp_path / "s", instance="x"))
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
