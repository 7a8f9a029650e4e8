"""Doctor checks that the SQL engines share: the boot of the leases, and jumps of the clock."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql import hosts, steady_time
from durableq.engines.sql.transactions import Transaction
from durableq.model.health import Finding, ok, warn
from durableq.model.limits import DAY_MS
from durableq.model.units import span
from durableq.runtime.clock import Clock, SteadyClock, jump_words

#: A stored date that lies this far ahead was written by a clock that was ahead.
AHEAD_MS: Final = 60_000
#: Time for which a jump of the wall clock is a warning.
RECENT_JUMP_MS: Final = DAY_MS
_NEWEST: Final = """
SELECT max(at_ms) FROM (
    SELECT max(sent_at_ms) AS at_ms FROM (
        SELECT sent_at_ms FROM durableq_message ORDER BY id DESC LIMIT 100) AS last_messages
    UNION ALL SELECT max(at_ms) FROM (
        SELECT at_ms FROM durableq_history ORDER BY id DESC LIMIT 100) AS last_events
    UNION ALL SELECT max(beat_at_ms) FROM durableq_worker) AS newest"""


def check_boot(tx: Transaction, host_id: str, boot_id: str) -> Finding:
    """Say whether the next opening takes leases back."""
    boots = hosts.known_boots(tx)
    if boots.get(host_id, boots.get("")) == boot_id:
        return ok("boot", "leases are of this boot of the machine")
    if boots and not {"", host_id} & set(boots):
        advice = "Nothing: the leases of that host run to their ends."
        return ok("boot", "last used on another host", advice)
    return ok(
        "boot",
        "last used under another boot of a machine, or restored by hand",
        "Nothing: the next opening takes back the leases of that boot.",
    )


def check_wall_clock(tx: Transaction, clock: Clock) -> Finding:
    """Judge jumps of the wall clock, and stored dates."""
    name, check = "wall_clock", "Check the machine's time (timedatectl)."
    steady = SteadyClock(clock)
    steady.adopt(steady_time.stored(tx, clock.boot_id()))
    now = steady.now()
    since_ms = now.steady_ms - now.jumped_at_ms
    ago = f"{span(since_ms)} ago" if since_ms else "just now"
    if now.jump_ms and since_ms < RECENT_JUMP_MS:
        return warn(
            name,
            f"the wall clock jumped {jump_words(now.jump_ms)}, noticed {ago}",
            f"{check} Nothing expires or comes due by a jump: lifetimes and delays go on as the "
            "boot clock has them. Once the machine's time is right, there is nothing to do.",
        )
    (newest_ms,) = tx.execute(_NEWEST).fetchone()
    ahead_ms = (newest_ms or 0) - now.steady_ms
    if ahead_ms > AHEAD_MS:
        return warn(
            name,
            f"the newest stored date lies {span(ahead_ms)} ahead: it was written while the "
            "clock was ahead, or by something else than this durableq",
            f"{check} What bears such dates is kept for as much longer.",
        )
    what = "no jump noticed within a day" if now.boot_id else "its jumps cannot be noticed here"
    return ok(name, f"{what}, and no date lies ahead")
