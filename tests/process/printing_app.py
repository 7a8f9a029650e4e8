"""An application whose handlers print past Python: programs they start, and raw descriptors."""

from __future__ import annotations

import os
import signal
import subprocess

from durableq import Delivery, DurableQ
from tests.process.app import Ledger

APP = "tests.process.printing_app:dq"
ODD = "\x1b[31m\u202e"

dq = DurableQ()


@dq.handler("orders")
def print_much(message: Delivery) -> None:
    do = message.body
    if do == "unfinished":
        print("no end", ODD, end="")
    elif do == "odd":
        print("print", ODD)
        subprocess.run(["printf", "program %s\\n", ODD], check=True)
        os.write(1, f"stdout {ODD}\n".encode())
        os.write(2, f"stderr {ODD}\nno end of line".encode())
    elif do == "much":
        for _ in range(200):
            os.write(2, b"m" * 65_535 + b"\n")
    elif do == "die":
        os.write(1, f"last words {ODD}".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "leave":
        left = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Ledger(dq.url).note("left", str(left.pid))
    elif do == "outlive":
        outlive(Ledger(dq.url))


def outlive(ledger: Ledger) -> None:
    """Print through a program, whose stdout is the worker's, after the supervisor has died."""
    program = subprocess.Popen(["cat"], stdin=subprocess.PIPE, bufsize=0)
    assert program.stdin is not None
    ledger.note("begun", "outlive")
    ledger.wait_at_gate()
    for number in range(3_000):
        program.stdin.write(f"{number:0>99}\n".encode())
    program.stdin.write(f"printed {ODD} to the end\n".encode())
    program.stdin.close()
    assert program.wait() == 0, "it was killed for printing"
