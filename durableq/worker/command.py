"""A command per message, so that a worker can be written in any language.

The body is the command's stdin, the other fields are in its environment. Its output goes to files,
not to pipes: a process that it leaves in the background would keep a pipe open.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any, Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery
from durableq.client.failures import HandlerFailed
from durableq.model import codec
from durableq.model.errors import InvalidInput, Reject, Unavailable
from durableq.model.limits import MAX_ERROR_CHARS, MAX_RESULT_BYTES, MAX_TRACEBACK_CHARS
from durableq.model.message import Failure, Reason
from durableq.model.text import shown
from durableq.runtime import logs
from durableq.supervisor.liveness import signal_name

log = logging.getLogger("durableq.worker")

#: Longest tail of a command's output that is shown.
MAX_SHOWN_BYTES: Final = 64 << 10
#: The exit code that rejects a message: EX_DATAERR of sysexits.h.
REJECTED: Final = 65
#: The exit code that says that a service which the command needs is down: EX_UNAVAILABLE.
UNAVAILABLE: Final = 69


def parse(text: str) -> tuple[str, ...]:
    """Return a command line as arguments, quoted as in a shell; there is no shell.

    Raises:
        InvalidInput: a quote is left open, or there is no such program.
    """
    try:
        arguments = shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"The command {shown(text)} cannot be read: {error}.") from None
    if not arguments:
        raise InvalidInput("The command is empty: name a program to run for each message.")
    program = shutil.which(arguments[0])
    if program is None:
        raise InvalidInput(
            f"There is no program {shown(arguments[0])} that can be executed. Give its path, "
            "and make it executable (chmod +x)."
        )
    return (os.path.abspath(program), *arguments[1:])


class Command:
    """A handler that runs a command.

    Args:
        arguments: the program and its arguments.
        timeout_ms: how long it may run; 0 for no limit.
    """

    def __init__(self, arguments: Sequence[str], timeout_ms: int) -> None:
        self._arguments = list(arguments)
        self._timeout = timeout_ms / 1000 if timeout_ms else None
        #: Called with the process group of each command that was started.
        self.on_start: Callable[[Delivery, int], None] = lambda _delivery, _group: None

    def __call__(self, message: Delivery) -> Any:
        """Run the command for a message and return the JSON that it printed, or None.

        Output that is neither the result nor part of a failure is shown like a handler's.

        Raises:
            Reject: it exited with 65.
            Unavailable: it exited with 69.
            HandlerFailed: with any other code, or it ran too long.
        """
        with (
            tempfile.TemporaryFile() as body,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            stored = message.message.body
            body.write(stored if isinstance(stored, bytes) else stored.encode())
            body.seek(0)
            code = self._run(message, body, output, errors)
            result = _result(output) if code == 0 else None
            if result is None:
                _show(output)
            if code == 0:
                _show(errors)
                return result
            complaint = _tail(errors, MAX_TRACEBACK_CHARS)
            if code == REJECTED:
                raise Reject(_last_line(complaint) or f"exit code {REJECTED}")
            if code == UNAVAILABLE:
                raise Unavailable(_last_line(complaint) or f"exit code {UNAVAILABLE}")
            raise HandlerFailed(_failure(code, complaint))

    def _run(
        self, message: Delivery, body: IO[bytes], output: IO[bytes], errors: IO[bytes]
    ) -> int | None:
        """Return the exit code; None when it ran too long and was killed."""
        process = subprocess.Popen(
            self._arguments,
            stdin=body,
            stdout=output,
            stderr=errors,
            env=os.environ | _environment(message),
            process_group=0,
        )
        self.on_start(message, process.pid)
        try:
            return process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.returncode is None:
                kill_group(process.pid)
                process.wait()


def application(queues: Sequence[str], command: Command, url: str | None) -> DurableQ:
    """Return an application with a command as the handler of these queues."""
    app = DurableQ(url)
    for queue in queues:
        app.handler(queue)(command)
    return app


def kill_group(group: int) -> None:
    """Kill all processes of a group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _environment(message: Delivery) -> dict[str, str]:
    known = message.message
    return {
        "DURABLEQ_MESSAGE_ID": known.id,
        "DURABLEQ_QUEUE": known.queue,
        "DURABLEQ_KEY": (known.key or "").replace("\0", "\\0"),  # no environment holds a NUL
        "DURABLEQ_ATTRIBUTES": known.attributes or "{}",
        "DURABLEQ_PRIORITY": str(known.priority),
        "DURABLEQ_RECEIVE_COUNT": str(known.receive_count),
        "DURABLEQ_RECOVERY_COUNT": str(known.recovery_count),
        "DURABLEQ_SENT_AT_MS": str(known.sent_at_ms),
    }


def _result(output: IO[bytes]) -> Any:
    """Return the JSON that a command printed; None for other text and for JSON not kept.

    Of JSON that cannot be kept the log says why: too large, or a value of it would be lost or
    changed (see codec.read_json).
    """
    size = output.seek(0, os.SEEK_END)
    output.seek(0)
    text = output.read(MAX_RESULT_BYTES + 1)
    if size > MAX_RESULT_BYTES:
        _warn_dropped("a command printed %s bytes; a result has at most %s", size, MAX_RESULT_BYTES)
        return None
    try:
        result = codec.read_json(text)
        codec.encode_result(result)  # the reader accepts lone surrogates
    except codec.NotJson:
        return None
    except InvalidInput as error:
        _warn_dropped("a command printed JSON that cannot be kept: %s", str(error).rstrip("."))
        return None
    return result


def _warn_dropped(why: str, *values: object) -> None:
    text = f"{why}, so it is shown and not kept"
    log.warning(text, *values, extra=logs.facts("result_dropped"))


def _show(output: IO[bytes]) -> None:
    """Print the tail of an output."""
    text = _tail(output, MAX_SHOWN_BYTES)
    if text and sys.stderr is not None:
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")


def _tail(errors: IO[bytes], most: int) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - most))
    return errors.read().decode("utf-8", "backslashreplace")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:MAX_ERROR_CHARS] if lines else ""


def _failure(code: int | None, complaint: str) -> Failure:
    if code is None:
        return Failure(Reason.TIMEOUT, "", Reason.TIMEOUT.sentence, complaint)
    what = signal_name(-code) if code < 0 else f"exit code {code}"
    return Failure(Reason.HANDLER_ERROR, what, _last_line(complaint), complaint)
