"""Image builds: idempotent by content, logged line by line, failing and cancelled cleanly."""

from __future__ import annotations

import threading
import time

import pytest

from agents.engine.errors import BuildFailed, Cancelled
from agents.engine.types import LABEL_INSTANCE
from tests.support.engine_kit import Kit, RealKit


def test_a_build_is_made_once_for_its_content(kit: Kit) -> None:
    spec = kit.build_spec("small", "FROM jackin/base:trixie\nENV A=1\n")  # type: ignore[attr-defined]
    lines: list[str] = []
    assert kit.engine.image_id(spec.tag) is None
    assert kit.engine.image_content(spec.tag) is None
    first = kit.engine.build_image(spec, log=lines.append)
    try:
        assert lines
        assert all("\n" not in line for line in lines)
        assert kit.engine.image_id(spec.tag) == first
        assert kit.engine.image_content(spec.tag) == spec.content
        lines.clear()
        assert kit.engine.build_image(spec, log=lines.append) == first
        assert lines == []
    finally:
        _remove_image(kit, spec.tag)


def test_a_build_cancelled_before_it_begins_makes_nothing(kit: Kit) -> None:
    spec = kit.build_spec("never", "FROM jackin/base:trixie\nRUN sleep 60\n")  # type: ignore[attr-defined]
    with pytest.raises(Cancelled, match="never"):
        kit.engine.build_image(spec, log=lambda line: None, cancelled=lambda: True)
    assert kit.engine.image_id(spec.tag) is None


def test_two_who_want_the_same_image_build_it_once(kit: Kit) -> None:
    spec = kit.build_spec("shared", "FROM jackin/base:trixie\nRUN sleep 1\n")  # type: ignore[attr-defined]
    lines: list[str] = []
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(kit.engine.build_image(spec, log=lines.append))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    try:
        assert made == [kit.engine.image_id(spec.tag)] * 3
        assert len([line for line in lines if "FROM jackin/base" in line]) == 1
    finally:
        _remove_image(kit, spec.tag)


def _remove_image(kit: Kit, tag: str) -> None:
    if kit.live:
        with kit.engine._pool.client(tag) as client:  # type: ignore[attr-defined]
            client.images.remove(tag)


@pytest.mark.live
def test_a_failing_build_says_its_last_words(real: RealKit) -> None:
    spec = real.build_spec("broken", "FROM jackin/base:trixie\nRUN echo so it goes; exit 3\n")
    with pytest.raises(BuildFailed, match=r"so it goes.*code: 3"):
        real.engine.build_image(spec, log=lambda line: None)
    assert real.engine.image_id(spec.tag) is None


@pytest.mark.live
def test_a_cancelled_build_ends_within_five_seconds_and_leaves_no_container(real: RealKit) -> None:
    mark = real.instance
    spec = real.build_spec("slow", f"FROM jackin/base:trixie\nRUN echo begun {mark}; exec sleep 300\n")
    asked: list[float] = []

    def log(line: str) -> None:
        if line.startswith(f"begun {mark}"):
            asked.append(time.monotonic())

    def ours() -> list[str]:
        with real.engine._pool.client("all") as client:
            return [c["Id"] for c in client.api.containers(all=True) if mark in str(c.get("Command"))]

    with pytest.raises(Cancelled):
        real.engine.build_image(spec, log=log, cancelled=lambda: bool(asked))
    assert time.monotonic() - asked[0] < 5
    assert ours() == []
    assert real.engine.image_id(spec.tag) is None


@pytest.mark.live
def test_a_build_keeps_to_its_limits(real: RealKit) -> None:
    probe = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null"
    spec = real.build_spec("limits", f"FROM jackin/base:trixie\nRUN {probe}; {quota}; true\n")
    lines: list[str] = []
    real.engine.build_image(spec, log=lines.append)
    try:
        assert str(spec.limits.memory) in lines
        assert any(line.split()[0] == "100000" for line in lines if line.split())
    finally:
        _remove_image(real, spec.tag)


@pytest.mark.live
def test_images_carry_the_instance(real: RealKit) -> None:
    spec = real.build_spec("labels", "FROM jackin/base:trixie\n")
    real.engine.build_image(spec, log=lambda line: None)
    try:
        with real.engine._pool.client(spec.tag) as client:
            assert client.images.get(spec.tag).labels[LABEL_INSTANCE] == real.instance
    finally:
        _remove_image(real, spec.tag)
