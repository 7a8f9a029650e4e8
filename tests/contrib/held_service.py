"""The service of the page about web frameworks, which may stop for ever in its transaction.

Arguments: the event of a SQLAlchemy Session at which it stops, or `never`. It prints its port, and
`held` when it stops.
"""

import importlib
import socket
import sys
import threading
from typing import Any

import uvicorn
from sqlalchemy import event
from sqlalchemy.orm import Session


def hold(*_: Any) -> None:
    print("held", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    service: Any = importlib.import_module("service")
    service.dq.init()
    service.Base.metadata.create_all(service.dq.engine)
    if sys.argv[1] != "never":
        event.listen(Session, sys.argv[1], hold)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(service.app, log_level="error")).run(sockets=[listening])
