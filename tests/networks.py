"""Two network namespaces, joined by a cable that can be pulled."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CLONE_NEWNET = 0x40000000
_CABLE = "cable"


class Cable:
    """The namespace of a server and that of a host; nothing leaves them.

    Skips the test where this user may not make them.
    """

    server_address, host_address = "10.99.0.1", "10.99.0.2"

    def __init__(self) -> None:
        self.server, self.host = (f"durableq-{end}-{os.getpid()}" for end in ("server", "host"))
        try:
            _ip("netns", "add", self.server)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("not allowed here, or not installed: ip netns add")
        _ip("netns", "add", self.host)
        peer = ("peer", "name", _CABLE, "netns", self.host)
        _ip("-n", self.server, "link", "add", _CABLE, "type", "veth", *peer)
        for name, address in ((self.server, self.server_address), (self.host, self.host_address)):
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", _CABLE)
            _ip("-n", name, "link", "set", _CABLE, "up")

    def pull(self) -> None:
        """Let the host vanish: neither end is told."""
        _ip("-n", self.host, "link", "set", _CABLE, "down")

    def close(self) -> None:
        """Remove both namespaces, and with them the cable."""
        for name in (self.server, self.host):
            _ip("netns", "delete", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Start processes in a network namespace: this thread is in it for the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{name}") as other:
        for file in (other, own):
            if libc.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns to {file.name}")
            if file is other:
                try:
                    yield
                except BaseException:
                    libc.setns(own.fileno(), _CLONE_NEWNET)
                    raise
