"""How walks are taken: in CI the same ones in each run, as every other random test draws there."""

from typing import Final

from hypothesis import seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

#: Whether all runs draw the same.
DRAWS_THE_SAME: Final = settings().derandomize


def take_walks(machine: type[RuleBasedStateMachine], chosen: settings, *, part: int = 0) -> None:
    """Take the walks of a state machine.

    Args:
        machine: takes a walk.
        chosen: their settings.
        part: of the walks; each has others.
    """
    if DRAWS_THE_SAME:  # not by `derandomize`, with which all machines and parts draw the same
        seed(f"{machine.__qualname__} {part}")(machine)
    run_state_machine_as_test(machine, settings=chosen)
