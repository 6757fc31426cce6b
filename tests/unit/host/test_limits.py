"""What the host is allowed to hold before its own programs meet a number that agents have used up."""

from __future__ import annotations

import pathlib
import resource
import subprocess

import pytest

from agents.host import engine_config, limits
from agents.host.instance import Instance


def made(root: pathlib.Path, **values: int) -> pathlib.Path:
    """A /proc/sys in which `values` stand (`a__b_c` is a/b_c)."""
    for name, value in values.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{value}\n")
    return root


@pytest.mark.parametrize(
    "name",
    ["fs/file-max", "fs/aio-max-nr", "fs/epoll/max_user_watches", "fs/inotify/max_user_instances",
     "fs/inotify/max_user_watches", "fs/pipe-user-pages-soft", "user/max_inotify_instances"],
)  # fmt: skip
def test_what_costs_an_agent_memory_is_out_of_its_reach(tmp_path: pathlib.Path, name: str) -> None:
    """A terabyte of memory would hardly be enough to come to the number, at 500 bytes each."""
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text("1000\n")
    assert limits.raise_limits(tmp_path) == []
    assert int(file.read_text()) >= 2**31 - 1


def test_no_number_is_lowered(tmp_path: pathlib.Path) -> None:
    root = made(tmp_path, kernel__pid_max=2**22 + 5, fs__pipe_user_pages_soft=0)
    (root / "fs/pipe_user_pages_soft").rename(root / "fs/pipe-user-pages-soft")  # 0 is: no limit
    assert limits.raise_limits(root) == []
    assert (root / "kernel/pid_max").read_text() == f"{2**22 + 5}\n"
    assert (root / "fs/pipe-user-pages-soft").read_text() == "0\n"


def test_what_cannot_be_raised_is_said(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path, kernel__pid_max=1000)

    def refuse(self: pathlib.Path, text: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(pathlib.Path, "write_text", refuse)
    assert limits.raise_limits(root) == ["kernel.pid_max"]


def test_containers_get_half_of_roots_signals_and_no_message_queue() -> None:
    argv = engine_config.containerd_argv(Instance())
    before = argv[: argv.index("containerd")]
    said = subprocess.run([*before, "bash", "-c", "ulimit -Si -Sq"], capture_output=True, text=True, check=True).stdout
    signals, queues = (int(line.split()[-1]) for line in said.splitlines())
    assert signals == resource.getrlimit(resource.RLIMIT_SIGPENDING)[0] // 2
    assert queues == 0
