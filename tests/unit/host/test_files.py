"""The directory table, releases, kept packages, logs."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from pathlib import Path

import pytest

from agents.host import busybox, dependencies, layout, release
from agents.host.instance import USERS
from agents.host.layout import Directory
from agents.host.logs import ChildLog
from agents.host.packages import missing, no_services
from agents.host.restarts import RestartLimiter
from agents.host.shell import HostError, as_user, network_env, visible

ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


def _line(path: Path, mode: int = 0o750) -> Directory:
    return Directory(path=path, owner=ME, group=MY_GROUP, mode=mode)


def test_exact_directory_passes(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o750)
    layout.check(_line(tmp_path / "d"))


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o2750, 0o700])
def test_any_other_mode_is_refused_by_name(tmp_path: Path, mode: int) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(mode)
    with pytest.raises(HostError, match=f"{mode:04o}.*must be.*0750"):
        layout.check(_line(tmp_path / "d"))


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o750)
    (tmp_path / "d").symlink_to(tmp_path / "real")
    with pytest.raises(HostError, match="symbolic link"):
        layout.check(_line(tmp_path / "d"))


def test_a_place_that_others_can_write_is_not_safe(tmp_path: Path) -> None:
    assert not layout.is_safe(tmp_path)  # somewhere below /tmp, which everybody can write
    assert layout.is_safe(Path("/usr/bin"))
    with pytest.raises(HostError, match="/tmp"):
        layout.check_chain(Path("/tmp"))


def _tree(place: Path) -> Path:
    (place / "agents" / "__pycache__").mkdir(parents=True)
    (place / "manage.py").write_text("x")
    (place / "agents" / "a.py").write_text("a")
    (place / "agents" / "__pycache__" / "a.pyc").write_text("compiled")
    (place / "notes.txt").write_text("not part of a release")
    return place


def test_release_hash_follows_names_modes_and_contents(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    first = release.digest(release.read(tree))
    (tree / "agents" / "__pycache__" / "b.pyc").write_text("more")
    (tree / "notes.txt").write_text("changed")
    assert release.digest(release.read(tree)) == first
    (tree / "agents" / "a.py").chmod(0o755)
    second = release.digest(release.read(tree))
    (tree / "agents" / "a.py").write_text("b")
    third = release.digest(release.read(tree))
    (tree / "agents" / "a.py").rename(tree / "agents" / "c.py")
    assert len({first, second, third, release.digest(release.read(tree))}) == 4


def test_release_refuses_links_and_pipes(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    (tree / "agents" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(HostError, match="neither a file nor a directory"):
        release.read(tree)
    (tree / "agents" / "passwd").unlink()
    os.mkfifo(tree / "agents" / "pipe")
    with pytest.raises(HostError, match="neither a file nor a directory"):
        release.read(tree)


def test_kept_packages_lose_set_id_bits_and_foreign_write(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    (source / "program").write_text("p")
    (source / "program").chmod(0o6777)
    (source / "python3").symlink_to("/usr/bin/python3")
    dependencies.keep(source, tmp_path / "t")
    assert (tmp_path / "t" / "program").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(tmp_path / "t" / "python3") == "/usr/bin/python3"


@pytest.mark.parametrize("goal", ["/etc/passwd", "../../outside", ".."])
def test_kept_packages_bring_no_link_to_elsewhere(tmp_path: Path, goal: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "link").symlink_to(goal)
    with pytest.raises(HostError, match="is a link to"):
        dependencies.keep(tmp_path / "s", tmp_path / "t")


def test_five_deaths_in_a_minute_are_forgiven_the_sixth_is_not() -> None:
    limiter = RestartLimiter()
    assert [limiter.died(float(n)) is not None for n in range(6)] == [True] * 5 + [False]


def test_deaths_are_forgotten_after_a_minute() -> None:
    limiter = RestartLimiter()
    assert all(limiter.died(n * 13.0) is not None for n in range(50))
    assert limiter.died(10_000.0) == 0.0


def test_log_is_bounded_and_shows_only_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.host.logs.LOG_BYTES", 200)
    log = ChildLog(tmp_path / "x.log")
    assert log.feed(b"INFO fine\n2026 ERROR bad\x1b[2J") == []
    assert log.feed(b" thing\n") == ["2026 ERROR bad\\x1b[2J thing"]
    log.feed(b"line\n" * 100)
    log.close()
    assert (tmp_path / "x.log").stat().st_size <= 200
    assert (tmp_path / "x.log").stat().st_mode & 0o777 == 0o600


def test_a_flood_of_errors_reaches_the_log_but_not_the_terminal(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "x.log")
    shown = [line for n in range(500) for line in log.feed(b"ERROR %d\n" % n)]
    assert shown[:2] == ["ERROR 0", "ERROR 1"]
    assert len(shown) < 50
    assert str(tmp_path / "x.log") in shown[-1]
    log.close()
    assert "ERROR 499" in (tmp_path / "x.log").read_text()


def test_output_without_a_line_end_takes_no_memory(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "x.log")
    for _ in range(100):
        log.feed(b"x" * 65536)
    assert len(log._rest) <= 8192
    assert sum(len(line) for line in log.last) <= 25 * 8192
    log.close()


def test_visible_leaves_nothing_that_steers_a_terminal() -> None:
    assert visible("a\x1b]0;t\x07\u202eb\r\nc") == "a\\x1b]0;t\\x07\\u202eb\\r\\nc"


def test_engine_package_only_where_no_dockerd_is() -> None:
    assert missing(lambda file: file != "dockerd") == ["docker.io"]
    assert missing(lambda _: True) == []
    assert "docker.io" not in missing(lambda file: file == "dockerd")


def test_policy_is_put_back(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    with contextlib.suppress(RuntimeError), no_services(policy):
        assert "exit 101" in policy.read_text()
        raise RuntimeError("the installation failed")
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert os.listdir(tmp_path) == ["policy-rc.d"]


def test_policy_is_removed_where_none_was_also_after_a_killed_run(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with no_services(policy):
        left = policy.read_text()
    policy.write_text(left)  # as a killed run leaves it
    with no_services(policy):
        pass
    assert os.listdir(tmp_path) == []


def test_downloads_get_the_network_settings_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_CERT", "HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "set")
    env = network_env()
    assert {"PIP_CERT", "HTTPS_PROXY"} <= set(env)
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"} & set(env)


def test_other_accounts_keep_no_right() -> None:
    words = as_user("jackin-web", ["true"], umask=0o077)
    assert {"--no-new-privs", "--bounding-set=-all", "--groups=jackin-db"} <= set(words)


def test_a_name_service_that_hangs_keeps_no_process_of_the_service_from_starting() -> None:
    for user in USERS:
        assert "--init-groups" not in as_user(user, ["true"])
    assert "--clear-groups" in as_user("jackin-term", ["true"])
    assert "--init-groups" in as_user("alice", ["true"])


def test_static_program_is_told_from_a_dynamic_one() -> None:
    assert not busybox.is_static(Path(os.path.realpath("/usr/bin/python3")).read_bytes())
    assert not busybox.is_static(b"#!/bin/sh\n")
