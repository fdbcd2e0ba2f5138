"""A container's end of the stream with its host: orders in, packets and words passed on.

Decides nothing about cells. Invariant: it never waits for the REPL with the host's words unread;
what the REPL does not take yet is kept here, and an interrupt overtakes it. It may wait for
the host, which always reads. Where either side is gone, the process ends.
"""

import contextlib
import json
import os
import select
import signal
import socket
from collections import deque
from typing import Any, Final, NoReturn

from abyme.guest import looks
from abyme.wire import PACKET_BYTES, Channel, MessageReader, message

READ_BYTES: Final = 1 << 18
HOST_IN, HOST_OUT = 0, 1


class Host:
    """The stream with the host."""

    def __init__(self) -> None:
        self._reader = MessageReader()

    def order(self) -> dict[str, Any]:
        """Wait for the first message; the host sends no other before it is answered."""
        while True:
            for _, body in self.read():
                made: dict[str, Any] = json.loads(body)
                return made

    def read(self) -> list[tuple[Channel, bytes]]:
        """Give what has come; ends the container if the host is gone."""
        data = os.read(HOST_IN, READ_BYTES)
        if not data:
            end()
        return list(self._reader.feed(data))

    def write(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(HOST_OUT, view) :]

    def tell(self, channel: Channel, told: dict[str, Any]) -> None:
        """Send JSON."""
        self.write(message(channel, json.dumps(told).encode()))

    def tell_opened(self, facts: dict[str, Any]) -> None:
        """Say that there is a REPL, and of what kind."""
        self.tell(Channel.ORDER, {"t": "opened", **facts})

    def refuse(self, why: str) -> None:
        """Say why there will be no REPL."""
        self.tell(Channel.ORDER, {"t": "refused", "why": why})


class Relay:
    """Passes on what comes."""

    def __init__(self, host: Host, wire: socket.socket, control: socket.socket, pidfd: int) -> None:
        self._host = host
        self._wire = wire
        self._control = control
        self._pidfd = pidfd
        self._not_taken: deque[bytes] = deque()
        wire.settimeout(0)
        control.settimeout(0)
        self._poll = select.poll()
        for fd in (HOST_IN, wire.fileno(), control.fileno(), pidfd):
            self._poll.register(fd, select.POLLIN)

    def serve(self) -> NoReturn:
        """Serve until one side is gone. Ends the process."""
        wire, control = self._wire.fileno(), self._control.fileno()
        while True:
            ready = dict(self._poll.poll())
            if HOST_IN in ready:
                self._from_host()
            if ready.get(wire, 0) & ~select.POLLOUT:
                self._from_wire()
            if ready.get(wire, 0) & select.POLLOUT:
                self._to_wire()
            if control in ready:
                self._from_control()
            if self._pidfd in ready:
                while self._from_wire():
                    pass
                self._host.write(message(Channel.ENDED))
                end()

    def _from_host(self) -> None:
        for channel, body in self._host.read():
            if channel == Channel.WIRE:
                self._not_taken.append(body)
            elif channel == Channel.CONTROL:
                with contextlib.suppress(OSError):  # the REPL is ending
                    self._control.send(body)
            elif channel == Channel.INTERRUPT:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGINT)
            elif channel == Channel.USE:
                self._host.tell(channel, use())
        if self._not_taken:
            self._to_wire()

    def _to_wire(self) -> None:
        try:
            while self._not_taken:
                self._wire.send(self._not_taken[0])
                self._not_taken.popleft()
        except BlockingIOError:
            self._poll.modify(self._wire.fileno(), select.POLLIN | select.POLLOUT)
            return
        except OSError:
            self._not_taken.clear()  # nobody reads it any more
        if self._wire.fileno() >= 0:
            self._poll.modify(self._wire.fileno(), select.POLLIN)

    def _from_wire(self) -> bool:
        """Pass a packet on; False: there is none, or there will be no more."""
        try:
            packet = self._wire.recv(PACKET_BYTES + 1)
        except BlockingIOError:
            return False
        except OSError:
            packet = b""
        if not packet:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._wire.fileno())
            return False
        self._host.write(message(Channel.WIRE, packet))
        return True

    def _from_control(self) -> None:
        try:
            echo = self._control.recv(64)
        except OSError:
            echo = b""
        if echo:
            self._host.write(message(Channel.CONTROL, echo))
        else:
            self._poll.unregister(self._control.fileno())


def use(proc: str = looks.PROC) -> dict[str, Any]:
    """Look at every process of the container but this one; see `Use` of the host's side."""
    found: dict[int, looks.Seen] = {}
    for name in os.listdir(proc):  # noqa: PTH208 - names only
        if name.isdigit() and name != "1" and (one := looks.seen(int(name), proc)) is not None:
            found[int(name)] = one
    fork_server = next((pid for pid, one in found.items() if one.parent == 1), 0)
    supervisor = next((pid for pid, one in found.items() if one.parent == fork_server), 0)
    own = {fork_server, *looks.engine(found, supervisor)}
    told = looks.add_up(found, own, proc)
    return {**told, "processes": max(0, told["processes"] - 1)}


def end() -> NoReturn:
    """End this process, and with it the container."""
    os._exit(0)
