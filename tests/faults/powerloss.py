"""A power cut at every instant of a call: `python -m tests.faults.powerloss CALL FOLDER`.

Runs with recorder.c preloaded. The call is recorded once; then each state that the disk may hold
after a cut between two of its operations (tests.faults.disk) is made and looked at,
as after a kill.
One JSON line is printed for each. A second cut, while the next command clears up or a second
restore runs, is made of a state after the first.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from durableq import DurableQ
from durableq.engines.sqlite.driver import driver
from tests.faults import sweep
from tests.faults.disk import VARIANTS, Disk, Operation, Variant, operations
from tests.faults.judging import survives
from tests.faults.sweep import FOLDER, OLD, PLACE, TARGET, attempt, forked, served

RECORD = FOLDER / "record"


# ---- the calls


def library() -> Any:
    return ctypes.CDLL(os.environ["LD_PRELOAD"])


def mark(**told: Any) -> None:
    """Record that an answer was given, which a power cut must not take back."""
    library().record_mark(json.dumps(told).encode())


def open_again() -> str:
    """Open the file after a first power cut; a refusal is an answer too."""
    attempt(partial(sweep.open_and_close, TARGET))
    return "done"


def begin() -> str:
    """Make a file and send the first message."""
    with DurableQ(TARGET) as dq:
        mark(sent=[dq.queue("orders").send("first")])
    return "done"


def work() -> str:
    """Send, receive and settle in a file that a killed process left, with a checkpoint between."""
    mark(sent=[str(number + 1) for number in range(OLD)])
    dq = DurableQ(TARGET)
    queue = dq.queue("orders", max_receives=1)
    mark(sent=[queue.send("one")])
    mark(sent=queue.send_many(["x" * 3_000] * 2))
    for message in queue.receive(2):
        mark(completing=[message.id])
        message.complete()
        mark(completed=[message.id])
    with closing(driver.connect(str(TARGET))) as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    for message in queue.receive(1):
        message.fail("no")
    mark(sent=[queue.send("last")])
    dq.close()
    return "done"


CALLS: dict[str, tuple[Callable[[], None], Callable[[], str]]] = {
    **sweep.CALLS,
    "open_again": (lambda: None, open_again),
    "begin": (lambda: None, begin),
    "work": (sweep.old_with_log, work),
}


# ---- record and replay


def record(act: Callable[[], str]) -> None:
    recorder = library()
    recorder.record_start(os.fsencode(PLACE), os.fsencode(RECORD))
    answer = act()
    assert answer == "done", answer
    mark(answered=[])
    os._exit(0)  # the end of the interpreter is no part of the call


def recorded(act: Callable[[], str], lies: str) -> tuple[Disk, list[Operation]]:
    """Run a call in a child; return the disk before it, and its operations."""
    disk = Disk(PLACE, lies)
    answer = forked(partial(record, act))
    assert answer == "killed by 0", answer
    return disk, list(operations(RECORD))


Choice = Callable[[str], Sequence[Variant]]


@dataclass
class Image:
    """One state after a cut, which can be made again: looking at it changes it."""

    disk: Disk
    variant: Variant
    seed: str
    verb: str
    told: dict[str, Any]

    def make(self) -> bytes:
        """Write the image into the folder, and return its digest."""
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir()
        return self.disk.image(PLACE, self.variant, random.Random(self.seed))


def images(
    call: str, run: tuple[Disk, list[Operation]], choice: Choice, seed: object
) -> Iterator[Image]:
    """Make the images after each operation of a call."""
    disk, done = copy.deepcopy(run[0]), run[1]
    answers: list[dict[str, Any]] = []
    for cut, (verb, fields, data) in enumerate(done, 1):
        disk.apply(verb, fields, data)
        if verb == "mark":
            answers.append(json.loads("/".join(fields)))
        for variant in choice(verb):
            told = {
                "call": call,
                "cut": f"{cut}/{len(done)} {verb} {'/'.join(fields)}",
                "variant": variant,
                "answers": list(answers),
            }
            yield Image(disk, variant, f"{seed} {cut} {variant}", verb, told)


def look(call: str, *, again: bool) -> dict[str, Any]:
    if call in {"begin", "work"}:
        return look_at_messages()
    mode = TARGET.stat().st_mode & 0o777 if TARGET.exists() else None
    return {"mode": mode} | sweep.look(call, again=again)


def look_at_messages() -> dict[str, Any]:
    """Open a file with durableq; return the identifiers of the messages that are in it."""
    refused = attempt(partial(sweep.open_and_close, TARGET))
    if refused:
        return {"refused": refused}
    raw = driver.connect(str(TARGET))
    check = raw.execute("PRAGMA integrity_check").fetchone()[0]
    rows = raw.execute("SELECT id FROM durableq_message").fetchall()
    raw.close()
    return {"refused": "", "check": check, "messages": [str(number) for (number,) in rows]}


# ---- the runs


NAMING = {"link", "rename", "unlink"}
DECISIVE = NAMING | {"mark"}
#: Calls that are cut after each write, too. The others make their copy in the same way.
EACH_WRITE = {"restore", "replace", "back_up"}


def in_turn(*, writes: bool, others: bool = True) -> Choice:
    """Choose one variant a cut, another each time; all where names change, and after an answer."""
    turn = itertools.cycle(VARIANTS)

    def choice(verb: str) -> Sequence[Variant]:
        if verb in DECISIVE:
            return VARIANTS if others else [next(turn)]
        return [next(turn)] if (writes if verb == "write" else others) else []

    return choice


class Looks:
    """Looks at images, each only once: three of four are equal to one before.

    Args:
        call: the call that was cut.
        looked: the look; see `look`.
        again_every: of how many different images one is restored again; 0 means none.
    """

    def __init__(self, call: str, looked: Callable[..., Any], again_every: int) -> None:
        self._call = call
        self._looked = looked
        self._again_every = again_every
        self._seen: dict[bytes, dict[str, Any]] = {}

    def at(self, image: Image) -> dict[str, Any]:
        """Return the findings in an image."""
        digest = image.make()
        if digest not in self._seen:
            number = len(self._seen)
            again = self._again_every > 0 and number % self._again_every == 0
            self._seen[digest] = self._looked(call=self._call, again=again)
        return self._seen[digest]


def first_cuts(call: str, options: argparse.Namespace) -> None:
    """Cut the power during a call, and for some images a second time during the next command."""
    run = recorded(CALLS[call][1], options.lies)
    choice = (lambda _: VARIANTS) if options.wide else in_turn(writes=call in EACH_WRITE)
    with served(look) as looked:
        looks = Looks(call, looked, again_every=8)
        for seed in range(options.seeds):
            for image in images(call, run, choice, seed):
                seen = image.told | looks.at(image)
                print(json.dumps(seen))
                if options.lies and not survives(seen):
                    return
                if is_second_due(call, image, options):
                    second_cuts(image, seen["plain"], options, looked)


def is_second_due(call: str, image: Image, options: argparse.Namespace) -> bool:
    """Whether a second cut follows: where names of the database have just changed."""
    verbs = NAMING if options.wide else {"link", "rename"}
    names = image.verb in verbs and ".partial-" not in image.told["cut"]
    if options.lies or not names or image.variant != ("each", "each"):
        return False
    return call == "replace" or (options.wide and call.startswith("re"))


def second_cuts(
    image: Image, before: str, options: argparse.Namespace, looked: Callable[..., Any]
) -> None:
    """Cut the power while the next command clears up, and while a second restore runs."""
    for call in ("open_again", "replace"):
        image.make()
        run = recorded(CALLS[call][1], options.lies)
        choice = in_turn(writes=options.wide, others=options.wide)
        looks = Looks(call, looked, again_every=0)
        for second in images(call, run, choice, image.seed):
            told = second.told | {"before": before, "first": [image.told["cut"], image.variant]}
            print(json.dumps(told | looks.at(second)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("call", choices=CALLS)
    parser.add_argument("folder")
    parser.add_argument("--wide", action="store_true", help="every variant of every cut")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lies", default="", choices=("", "files", "directory"))
    options = parser.parse_args()
    forked(sweep.made_backup)
    PLACE.mkdir()
    CALLS[options.call][0]()
    first_cuts(options.call, options)


if __name__ == "__main__":
    main()
