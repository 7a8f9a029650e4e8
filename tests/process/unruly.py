"""An application whose handlers misbehave: a message's body names the misdeed."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from durableq import Delivery, DurableQ, RetryLater
from tests.process.app import Ledger

APP = "tests.process.unruly:dq"
OWN_FILES = 60
OWN_BYTES = b"mine"

dq = DurableQ()
MISDEEDS: dict[str, Callable[[Delivery], Any]] = {}


def misdeed(function: Callable[[Delivery], Any]) -> Callable[[Delivery], Any]:
    MISDEEDS[function.__name__] = function
    return function


@dq.handler("orders")
def misbehave(message: Delivery) -> Any:
    do = message.body
    return MISDEEDS[do](message) if do in MISDEEDS else None


def run_aside(call: Callable[[], object]) -> None:
    """Run it on a thread, and so with connections, of its own."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


# ---- harmless misdeeds


@misdeed
def change_directory(_: Delivery) -> None:
    os.chdir("/")
    run_aside(lambda: dq.queue("after").send("from elsewhere"))


@misdeed
def print_for_a_terminal(_: Delivery) -> None:
    print("\x1b[2Jcleared\x07 \u202e")


@misdeed
def print_megabytes(_: Delivery) -> None:
    print("m" * (3 << 20))


@misdeed
def close_stdout(_: Delivery) -> None:
    sys.stdout.close()
    print("said after stdout was closed")


@misdeed
def fork_and_return(_: Delivery) -> None:
    if child := os.fork():
        os.waitpid(child, 0)


@misdeed
def fork_and_raise(_: Delivery) -> None:
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        raise RuntimeError("in the child")


@misdeed
def terminate_a_child(_: Delivery) -> None:
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tells, b".")
        threading.Event().wait()
    os.read(hears, 1)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@misdeed
def fork_while_another_prints(_: Delivery) -> None:
    """Fork while a thread stands inside a write to stderr, then let it go on."""
    hears, tells = os.pipe()
    stderr = os.dup(2)
    os.dup2(tells, 2)
    os.close(tells)
    threading.Thread(target=print, args=["p" * (1 << 17)]).start()  # more than a pipe holds
    writable = select.poll()
    writable.register(2, select.POLLOUT)
    while writable.poll(0):
        threading.Event().wait(0.001)
    if child := os.fork():
        os.dup2(stderr, 2)
        while said := os.read(hears, 1 << 16):
            os.write(stderr, said)
        os.waitpid(child, 0)


@misdeed
def take_over_a_signal(_: Delivery) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


# ---- misdeeds that fail the message


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def without_end() -> None:
    without_end()


@misdeed
def recursion(_: Delivery) -> None:
    without_end()


@misdeed
def exit_politely(_: Delivery) -> NoReturn:
    sys.exit()


@misdeed
def speechless(_: Delivery) -> NoReturn:
    raise Speechless


@misdeed
def unformattable(_: Delivery) -> NoReturn:
    raise SyntaxError("bad", ("f", 1, 1, 42))  # type: ignore[arg-type]


class Own(BaseException):
    """No Exception; each of its attributes raises it again."""

    def __getattribute__(self, _: str) -> NoReturn:
        raise Own

    __str__ = __repr__ = __hash__ = __getattribute__  # type: ignore[assignment]


@misdeed
def own_base_exception(_: Delivery) -> NoReturn:
    raise Own


class Waiting(RetryLater):
    @property
    def seconds(self) -> float:
        raise Own

    @seconds.setter
    def seconds(self, _: float) -> None: ...


@misdeed
def unreadable_wait(_: Delivery) -> NoReturn:
    raise Waiting(1)


@misdeed
def generator(_: Delivery) -> Any:
    yield 1


@misdeed
def speechless_afterwards(message: Delivery) -> NoReturn:
    message.complete()
    raise Speechless


@misdeed
def unwritable(_: Delivery) -> NoReturn:
    raise ValueError("\ud800 \0 \x1b")


@misdeed
def coroutine(_: Delivery) -> Any:
    return asyncio.wait_for(asyncio.Event().wait(), 1)


def raises(error: BaseException) -> None:
    def function(_: Delivery) -> NoReturn:
        raise error

    MISDEEDS[type(error).__name__] = function


for error in (StopIteration(), GeneratorExit(), MemoryError(), KeyboardInterrupt(), SystemExit(3)):
    raises(error)


# ---- misdeeds that kill the worker


@misdeed
def exit_0(_: Delivery) -> None:
    os._exit(0)


@misdeed
def exit_3(_: Delivery) -> None:
    os._exit(3)


@misdeed
def real_time_signal(_: Delivery) -> None:
    os.kill(os.getpid(), signal.SIGRTMIN + 3)


@misdeed
def crash(_: Delivery) -> None:
    sys.setrecursionlimit(1 << 30)
    through_c()


def through_c(_: object = None) -> object:
    return list(map(through_c, [None]))


@misdeed
def close_descriptors(_: Delivery) -> None:
    os.closerange(3, 4096)


@misdeed
def put_others_in_their_place(message: Delivery) -> None:
    """Close every descriptor, and open files of one's own under the same numbers."""
    os.closerange(3, 4096)
    folder = Path(str(message.attributes["folder"]))
    flags = os.O_RDWR | os.O_CREAT
    own = [os.open(folder / f"own-{number}", flags) for number in range(OWN_FILES)]
    for descriptor in own:
        os.write(descriptor, OWN_BYTES)
    threading.Event().wait()  # the worker goes on meanwhile


# ---- misdeeds without an end


class Endless(Exception):
    def __str__(self) -> str:
        threading.Event().wait()
        return "never"


@misdeed
def endless_message(_: Delivery) -> NoReturn:
    Ledger(dq.url).note("begun", "endless")
    raise Endless


@misdeed
def swallow_everything(_: Delivery) -> None:
    Ledger(dq.url).note("begun", "swallow")
    while True:
        try:
            threading.Event().wait()
        except BaseException:  # noqa: BLE001 - that is the misdeed
            continue


@misdeed
def ignore_sigterm(_: Delivery) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Ledger(dq.url).note("begun", "ignore")


@misdeed
def leave_a_thread(_: Delivery) -> None:
    threading.Thread(target=threading.Event().wait).start()
    Ledger(dq.url).note("begun", "thread")


# ---- coroutines


@dq.handler("coroutines")
async def misbehave_async(message: Delivery) -> None:
    match message.body:
        case "stop the loop":
            asyncio.get_running_loop().stop()
        case "exit aside":
            aside = asyncio.ensure_future(exit_aside())
            await asyncio.wait([aside])
        case "cancel all" if message.receive_count == 1:
            for one in asyncio.all_tasks():
                one.cancel()
        case "exit":
            sys.exit(3)
        case "cancel":
            raise asyncio.CancelledError
    await asyncio.to_thread(lambda: None)


async def exit_aside() -> NoReturn:
    sys.exit(3)
