"""Ranges of subordinate ids that clash with the containers', and accounts that lie in somebody's range."""

from __future__ import annotations

import pathlib

import pytest

from agents.broker import accounts, names, ranges
from agents.broker.config import Config
from agents.broker.names import Account
from agents.broker.protocol import Refusal
from agents.broker.ranges import Range
from agents.host.instance import REMAP_BASE, REMAP_COUNT, Instance

OURS = f"jackin-remap:{REMAP_BASE}:{REMAP_COUNT}\n"
ALICE = Account(uid=1500, gid=1500, group="alice", home="/home/alice", others=((1700, "team"),))


@pytest.fixture
def files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> tuple[pathlib.Path, pathlib.Path]:
    """Stand-ins for /etc/subuid and /etc/subgid with our line in them; alice is an account of this machine."""
    made = tmp_path / "subuid", tmp_path / "subgid"
    for file, name in zip(made, ("UIDS", "GIDS"), strict=True):
        file.write_text(f"alice:100000:65536\n{OURS}")
        monkeypatch.setattr(ranges, name, file)
    monkeypatch.setattr(names, "account", lambda _name, *, until: ALICE)
    return made


@pytest.fixture
def config(tmp_path: pathlib.Path) -> Config:
    whole = Config.from_instance(Instance(name="none"))
    return Config(**{**vars(whole), "keys": tmp_path, "links_file": tmp_path / "links.json"})


def code_of(config: Config) -> str:
    with pytest.raises(Refusal) as caught:
        accounts.resolve("alice", config, until=0)
    return caught.value.code


def test_lines_are_read_as_the_tools_read_them() -> None:
    assert ranges.parse("# x\na:100:5\nbroken\nb:x:1\nc:1:2:3\n") == [Range(owner="a", first=100, count=5)]
    assert ranges.parse("1000:0x70000000:010") == [Range(owner="1000", first=REMAP_BASE, count=8)]


def test_our_range_beside_others() -> None:
    assert ranges.clash([Range(owner="alice", first=100000, count=65536), ranges.OURS]) == ""
    assert "alice" in ranges.clash([Range(owner="alice", first=REMAP_BASE - 1, count=2)])
    assert ranges.clash([Range(owner="alice", first=REMAP_BASE - 1, count=1)]) == ""
    assert "jackin-remap" in ranges.clash([Range(owner="jackin-remap", first=100000, count=65536)])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("line", [f"eve:{REMAP_BASE + 65536}:65536", "eve:0x70000000:1", f"0:{REMAP_BASE - 9}:10"])
def test_a_range_that_was_added_later_and_clashes_stops_every_look_up(
    files: tuple[pathlib.Path, pathlib.Path], config: Config, which: int, line: str
) -> None:
    assert accounts.resolve("alice", config, until=0).uid == 1500
    files[which].write_text(f"{line}\n{OURS}")
    assert code_of(config) == "ids-clash"
    accounts._write_links([{"web_user": "al", "account": "alice", "uid": 1500, "linked_at": "", "how": ""}], config)
    with pytest.raises(Refusal) as caught:
        accounts.identity("al", config, until=0)
    assert (caught.value.code, str(files[which]) in caught.value.message) == ("ids-clash", True)


def test_an_account_inside_somebodys_range_is_refused(files: tuple[pathlib.Path, pathlib.Path], config: Config) -> None:
    uids, gids = files
    uids.write_text(f"bob:1400:101\n{OURS}")
    assert code_of(config) == "account-refused"
    uids.write_text(f"bob:1400:100\n{OURS}")
    gids.write_text(f"bob:1400:101\n{OURS}")
    assert code_of(config) == "account-refused"
    gids.write_text(f"bob:1700:1\n{OURS}")
    assert accounts.resolve("alice", config, until=0).allowed == ()  # its group is somebody's container's
    gids.write_text(OURS)
    assert accounts.resolve("alice", config, until=0).allowed == ((1700, "team"),)
