"""`python -m tests.benchmarks.terminal`: our way to a real container's terminal against the engine's own socket.

Both in one run on one machine, so that the ratios mean something. Needs root, and an engine (JACKIN_TEST_ENGINE) that
has the image jackin/base:trixie. Measured is the way to the socket of terminals; daphne and browser come on top.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import tempfile

from tests.support.live_terminal import (
    FLOOD_SIZE,
    Live,
    Terminal,
    echo,
    expected_flood,
    flood,
    interrupt,
    live_terminal,
)
from tests.support.terminals import Window

ECHOES = 300
ROUNDS = 3
MEBI = 1024 * 1024


def measure(terminal: Terminal) -> dict[str, float]:
    """Medians; the flood is compared byte for byte, too."""
    wanted = expected_flood()
    echoes = echo(terminal, times=ECHOES)
    floods = [flood(terminal) for _ in range(ROUNDS)]
    if any(digest != wanted for digest, _ in floods):
        raise SystemExit("bytes were lost or out of order")
    return {
        "echo, ms": 1000 * statistics.median(echoes),
        "echo, 95%, ms": 1000 * statistics.quantiles(echoes, n=20)[-1],
        "20 MB flood, MB/s": FLOOD_SIZE / 1e6 / statistics.median(took for _, took in floods),
        "^C under a flood, ms": 1000 * statistics.median(interrupt(terminal) for _ in range(ROUNDS)),
    }


def stalled_memory(live: Live) -> float:
    """MiB that the terminals process grows by when its only window stops reading under a flood."""
    window = live.window()
    window.acknowledge = False
    before, received = live.process.memory(), window.received
    window.type(b"yes\n")
    while window.read(seconds=5):
        pass
    grown = live.process.memory() - before
    window.type(b"\x03")
    window.acknowledge = True
    window.control(ack=window.received - received)
    window.expect(b"READY> ")
    return grown / MEBI


def per_window_memory(live: Live, *, windows: int = 100) -> float:
    """MiB for each further window of other agents, idle."""
    before = live.process.memory()
    opened: list[Window] = [live.process.window(agent=f"{number:032x}") for number in range(windows)]
    for window in opened:
        window.wait_for(waiting=True)
    return (live.process.memory() - before) / MEBI / windows


def main() -> None:
    engine = os.environ["JACKIN_TEST_ENGINE"]
    with tempfile.TemporaryDirectory() as place, live_terminal(pathlib.Path(place), engine=engine) as live:
        with live.direct() as direct:
            alone = measure(direct)
        window = live.window()
        through = measure(window)
        window.close()
        print(f"{'':24}{'engine':>10}{'terminals':>12}{'ratio':>8}")
        for name, value in alone.items():
            print(f"{name:24}{value:>10.2f}{through[name]:>12.2f}{through[name] / value:>8.2f}")
        print(f"{'stalled window, MiB':24}{'–':>10}{stalled_memory(live):>12.2f}")
        print(f"{'idle window, MiB':24}{'–':>10}{per_window_memory(live):>12.3f}")


if __name__ == "__main__":
    main()
