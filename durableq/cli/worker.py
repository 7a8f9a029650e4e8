"""`durableq worker`: one worker is asked to end."""

from __future__ import annotations

from typing import Annotated, Final

from durableq.cli.help import argument
from durableq.cli.options import Session
from durableq.model.arguments import listed
from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.errors import Conflict, NotFound
from durableq.model.info import WorkerInfo
from durableq.model.text import shown
from durableq.store.core import Capability
from durableq.supervisor.liveness import may_be_alive

Name = Annotated[str, argument("NAME", "Name of the worker, as `durableq status` lists it.")]


def drain(session: Session, name: Name) -> None:
    """Let one worker finish its messages and end; the others go on.

    Its supervisor asks it within a second, on whatever host it is, and does not replace it. A fleet
    whose last worker ends, ends too. Messages that it has not begun are then with the others.

    Example: durableq worker drain worker-2:4711
    """
    with session.opened() as store:
        fleet = store.require(Capability.FLEET)
        worker = _living(fleet.workers(), name)
        if not fleet.drain(worker.owner_id):
            raise NotFound(f"Worker {shown(name)} has just ended.")
    text = f"{name}: asked to end. It finishes its messages, and is not replaced."
    session.show({"worker": name, "pid": worker.pid, "draining": True}, text)


COMMANDS: Final = (drain,)


def _living(workers: list[WorkerInfo], name: str) -> WorkerInfo:
    """Return the worker of a name.

    Raises:
        NotFound: there is none, or it has ended.
        Conflict: it is a recovery process.
    """
    found = [worker for worker in workers if worker.name == name]
    if not found:
        names = [worker.name for worker in workers if not worker.name.startswith(RECOVERY_ACTOR)]
        others = f"there are {listed(names)}" if names else "there are none"
        raise NotFound(f"There is no worker {shown(name)}; {others}. `durableq status` lists them.")
    if name.startswith(RECOVERY_ACTOR):
        raise Conflict(f"{name} is a recovery process, not a worker: end it with SIGTERM.")
    living = [worker for worker in found if may_be_alive(worker)]
    if not living:
        raise NotFound(
            f"Worker {name} has ended already. Its messages are with others, or will be soon."
        )
    return living[-1]
