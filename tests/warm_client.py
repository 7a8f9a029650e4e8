"""Run a module in a fork of a warm process: `python -I -S tests/warm_client.py ADDRESS MODULE ...`.

The fork gets this process's streams, directory and environment; this process ends as the fork does,
but passes no signal on. It imports little, and so costs a fortieth of a start of durableq.
"""

import json
import os
import signal
import socket
import sys

STREAMS = (0, 1, 2)


def request(
    address: str, descriptors: dict[int, int], **fields: object
) -> tuple[int, socket.socket]:
    """Ask the warm process to fork; return the pid of the fork, and the socket of its exit code.

    Args:
        address: the path of the warm process's socket.
        descriptors: the fork's streams, 0 to 2, and which descriptor of this process each is.
        fields: the module, its arguments, its directory and its environment.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    text = json.dumps({**fields, "streams": list(descriptors)}) + "\n"
    socket.send_fds(connection, [b"\n"], list(descriptors.values()))
    connection.sendall(text.encode())
    return read_number(connection), connection


def read_number(connection: socket.socket) -> int:
    """Return the number on the next line, read byte by byte, as another follows."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise EOFError("the warm process has ended")
        line += byte
    return int(line)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def main() -> None:
    """Run the module that the command line names."""
    address, module, *arguments = sys.argv[1:]
    _, connection = request(
        address,
        {number: number for number in STREAMS if is_open(number)},
        module=module,
        arguments=arguments,
        folder=os.getcwd(),
        environment=dict(os.environ),
    )
    code = read_number(connection)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
