"""All pumps by agent; what the runner's feed and the windows' sockets meet in."""

from __future__ import annotations

import logging
import socket
from collections import OrderedDict
from typing import Final

from agents.terminals.protocol import ProtocolError, Size
from agents.terminals.pump import Emit, Pump
from agents.terminals.viewer import Viewer

log = logging.getLogger(__name__)

MOST_PUMPS: Final = 1000
MOST_VIEWERS: Final = 16  # of one agent
MOST_REMEMBERED: Final = 256  # reasons of dropped agents, for windows that come late


class Hub:
    """`emit` takes the events for the runner."""

    def __init__(self, *, emit: Emit) -> None:
        self.pumps: dict[str, Pump] = {}
        self._dropped: OrderedDict[str, str] = OrderedDict()
        self._emit = emit

    def live(self) -> list[str]:
        """Agents whose stream is here."""
        return sorted(agent for agent, pump in self.pumps.items() if pump.live)

    def stream(self, agent: str, stream: socket.socket, *, size: Size, history: bytes) -> None:
        """The runner brings a stream, the first one or a replacement. The socket belongs to the pump from now on."""
        self._dropped.pop(agent, None)
        try:
            pump = self._pump(agent)
        except ProtocolError:
            stream.close()
            raise
        log.info("agent %s: stream of %d rows, %d columns", agent, size.rows, size.columns)
        pump.use_stream(stream, size=size, history=history)

    def drop(self, agent: str, reason: str) -> None:
        """The agent is gone."""
        log.info("agent %s: dropped", agent)
        self._dropped[agent] = reason
        while len(self._dropped) > MOST_REMEMBERED:
            self._dropped.popitem(last=False)
        pump = self.pumps.pop(agent, None)
        if pump is not None:
            pump.drop(reason)

    def attach(self, agent: str, viewer: Viewer) -> Pump | None:
        """A window opens; None if the agent is gone. Before the runner brought the stream, the window waits."""
        if agent in self._dropped:
            viewer.tell(ended=self._dropped[agent])
            return None
        pump = self._pump(agent)
        if len(pump.viewers) >= MOST_VIEWERS:
            raise ProtocolError(f"{MOST_VIEWERS} windows look at this agent already")
        pump.attach(viewer)
        return pump

    def detach(self, pump: Pump, viewer: Viewer) -> None:
        """A window closed."""
        if viewer in pump.viewers:
            pump.detach(viewer)
        if not pump.viewers and not pump.live and not pump.ring.end:
            self.pumps.pop(pump.agent, None)

    def close(self) -> None:
        """End all windows; the agents go on, their streams are left."""
        for pump in self.pumps.values():
            pump.close()
        self.pumps.clear()

    def _pump(self, agent: str) -> Pump:
        pump = self.pumps.get(agent)
        if pump is None:
            if len(self.pumps) >= MOST_PUMPS:
                raise ProtocolError(f"{MOST_PUMPS} terminals are open already")
            pump = self.pumps[agent] = Pump(agent, emit=self._emit)
        return pump
