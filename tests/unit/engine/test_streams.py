"""The hijack's header reader: in whatever pieces the answer comes, not one byte too many is taken."""

from __future__ import annotations

import itertools
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine import streams
from agents.engine.errors import Conflict, EngineError, EngineUnreachable, NotFound

HEADER = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nUpgrade: tcp\r\n\r\n"


class Pieces:
    """A socket that has only the next piece ready, as a slow sender's would."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def recv(self, count: int, flags: int = 0) -> bytes:
        if not self.pieces:
            return b""
        taken = self.pieces[0][:count]
        if not flags & socket.MSG_PEEK:
            self.pieces[0] = self.pieces[0][len(taken) :]
            if not self.pieces[0]:
                self.pieces.pop(0)
        return taken

    @property
    def left(self) -> bytes:
        return b"".join(self.pieces)


@given(st.lists(st.integers(min_value=0, max_value=len(HEADER) + 12)), st.binary(max_size=12))
def test_however_the_answer_is_split(cuts: list[int], first_output: bytes) -> None:
    data = HEADER + first_output
    bounds = [0, *sorted(cuts), len(data)]
    fake = Pieces([data[start:end] for start, end in itertools.pairwise(bounds)])
    assert streams.read_header(fake) == HEADER  # type: ignore[arg-type]
    assert fake.left == first_output


def test_an_answer_that_breaks_off() -> None:
    with pytest.raises(EngineUnreachable):
        streams.read_header(Pieces([HEADER[:30]]))  # type: ignore[arg-type]


def test_an_endless_header_is_given_up() -> None:
    with pytest.raises(EngineError, match="more than"):
        streams.read_header(Pieces([b"X: y\r\n" * 10_000]))  # type: ignore[arg-type]


@pytest.mark.parametrize(("header", "status"), [(HEADER, 101), (b"HTTP/1.0 404 Not Found\r\n\r\n", 404)])
def test_status(header: bytes, status: int) -> None:
    assert streams.parse_status(header) == status


@pytest.mark.parametrize("header", [b"\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0\r\n\r\n"])
def test_what_is_not_http(header: bytes) -> None:
    with pytest.raises(EngineError):
        streams.parse_status(header)


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> Iterator[tuple[pathlib.Path, list[bytes], list[bytes]]]:
    """A one-shot engine: its path, what it answers, and what it was asked."""
    path, answer, asked = tmp_path / "engine.sock", [b""], []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(answer[0])

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, answer, asked
    thread.join(5)
    listener.close()


def test_output_right_behind_the_header_is_kept(engine: tuple[pathlib.Path, list[bytes], list[bytes]]) -> None:
    path, answer, asked = engine
    answer[0] = HEADER + b"first words"
    with streams.attach(path, "abc", api_version="1.41") as stream:
        assert stream.recv(100) == b"first words"
        assert stream.recv(100) == b""
    assert asked[0].startswith(b"POST /v1.41/containers/abc/attach?stream=1&stdin=1&stdout=1&stderr=1&detachKeys=%FF,")
    assert b"\r\nUpgrade: tcp\r\n" in asked[0]


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (409, Conflict), (500, EngineError)])
def test_refusals_are_ours(
    engine: tuple[pathlib.Path, list[bytes], list[bytes]], status: int, error: type[EngineError]
) -> None:
    path, answer, _ = engine
    answer[0] = b"HTTP/1.1 %d No\r\nContent-Length: 13\r\n\r\nsaid by Docke" % status
    with pytest.raises(error, match="said by Docke"):
        streams.attach(path, "abc", api_version="1.41")


def test_a_name_cannot_leave_its_place_in_the_path(engine: tuple[pathlib.Path, list[bytes], list[bytes]]) -> None:
    path, answer, asked = engine
    answer[0] = HEADER
    streams.attach(path, "../x?y=1\r\nZ: 1", api_version="1.41").close()
    assert asked[0].startswith(b"POST /v1.41/containers/..%2Fx%3Fy%3D1%0D%0AZ%3A%201/attach?")
