"""The settings under which the server makes the plans of our statements.

A plan may be made while a table is empty, and serve when it is full, so it is to use the indexes.
To start other processes, or a compiler, takes longer than a read; to plan a list anew each time,
as long as the rest of a receive.

A connection of the pool has them for its session. User code that has such a connection has the
server's own settings instead. Behind a pooler of transactions a session is anybody's, so there
each transaction and each function sets them for itself.
"""

from __future__ import annotations

from typing import Final

_PLANNING: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # By this a function knows that the others are set.
    "durableq.planning": "on",
}


def _set(*, local: bool) -> str:
    return ", ".join(
        f"set_config('{name}', '{value}', {str(local).lower()})"
        for name, value in _PLANNING.items()
    )


#: The server's clock, in milliseconds since the Unix epoch.
NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
#: Sets them for the transaction, and returns the time last.
PLANNED_NOW: Final = NOW.replace("SELECT ", f"SELECT {_set(local=True)}, ", 1)
#: Sets them for the session.
PLAN_SESSION: Final = f"SELECT {_set(local=False)}"
#: Takes them back for the transaction.
UNPLAN: Final = "; ".join(f"SET LOCAL {name} TO DEFAULT" for name in _PLANNING)
#: In a function: sets them where the session does not have them.
PLAN_FUNCTION: Final = f"""\
    IF current_setting('durableq.planning', true) IS DISTINCT FROM 'on' THEN
        PERFORM {_set(local=True)};
    END IF;"""
