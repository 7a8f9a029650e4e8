"""Hosts and their boots: what an earlier boot of this host leased is taken back.

The processes of an earlier boot of this host are dead. Those of another host may be alive whatever
their boot is, so their leases run to the end.
"""

from __future__ import annotations

import hashlib
from typing import Final

from durableq.engines.sql import metadata, steady_time
from durableq.engines.sql.columns import OUTSIDE_BASE, OWNER_BASE
from durableq.engines.sql.reclaiming import reclaim_all, reclaim_from
from durableq.engines.sql.transactions import Transaction, WriteTransaction
from durableq.model.limits import DAY_MS

#: The name in durableq_meta of the boot under which a host last opened the file.
_BOOT: Final = "boot:"
#: Its name before revision 0005, when the file knew one host.
_BOOT_OF_0_1: Final = "boot_id"
#: Time after which a host or a worker of another boot that wrote nothing is forgotten.
_FORGET_MS: Final = 7 * DAY_MS
#: Leases of an earlier boot that one transaction takes back: each time all are sorted.
SLICE: Final = 2_000


def owner_outside(host_id: str, boot_id: str) -> int:
    """Return the owner, as stored, of leases that no registered worker of this boot has."""
    digest = hashlib.sha256(f"{host_id}\0{boot_id}".encode()).digest()
    return OUTSIDE_BASE + int.from_bytes(digest[:5], "big")


def known_boots(tx: Transaction) -> dict[str, str]:
    """Return the boot under which each host last opened the file.

    The host "" is the one that a file of before revision 0005 knew.
    """
    boots = metadata.own_values(tx, _BOOT)
    known = {name.removeprefix(_BOOT): boot_id for name, boot_id in boots.items()}
    before = metadata.own_value(tx, _BOOT_OF_0_1)
    return known if before is None else {**known, "": before}


def forget_boots(tx: Transaction) -> None:
    """Forget all boots, so that the next opening takes back every lease and worker."""
    for name in (_BOOT_OF_0_1, *metadata.own_values(tx, _BOOT)):
        metadata.set_own_value(tx, name, None)


def start_anew(tx: Transaction, host_id: str, boot_id: str) -> None:
    """Unregister all workers, end the leases of values, and enter this host as the only one."""
    forget_boots(tx)
    tx.run(tx.sql.UNREGISTER_ALL)
    tx.run(tx.sql.END_ONCE_LEASES)
    metadata.set_own_value(tx, f"{_BOOT}{host_id}", boot_id)


def enter(tx: WriteTransaction, host_id: str, boot_id: str) -> bool:
    """Enter the boot of a host, once the leases of its earlier boot are taken back.

    A copy names no boot, and a file of before revision 0005 names that of one host only: every
    lease in a copy, and in such a file after a restart, is taken back.

    Returns:
        Whether the boot was entered; otherwise there may be more leases, for another transaction.
    """
    boots = known_boots(tx)
    before = boots.get(host_id)
    if not boots or boots.get("", boot_id) != boot_id:
        if reclaim_all(tx, SLICE) == SLICE:
            return False
        start_anew(tx, host_id, boot_id)
        return True
    workers = tx.run(tx.sql.EARLIER_WORKERS, host_id=host_id, boot_id=boot_id).fetchall()
    owners = [OWNER_BASE + owner_id for (owner_id,) in workers]
    if before is not None:
        owners += [OWNER_BASE, owner_outside(host_id, before)]
    left = SLICE
    for owner in owners:
        left -= reclaim_from(tx, owner, left)
        if not left:
            return False
    for (owner_id,) in workers:
        tx.run(tx.sql.UNREGISTER, of=owner_id)
    _forget_silent(tx, boots, boot_id)
    metadata.set_own_value(tx, _BOOT_OF_0_1, None)
    metadata.set_own_value(tx, f"{_BOOT}{host_id}", boot_id)
    return True


def _forget_silent(tx: Transaction, boots: dict[str, str], boot_id: str) -> None:
    """Forget workers and hosts that have not written for long; their leases have ended."""
    before_ms = tx.now_ms - _FORGET_MS
    tx.run(tx.sql.FORGET_WORKERS, boot_id=boot_id, before_ms=before_ms)
    remembered = {boot_id, *steady_time.drop_old(tx, before_ms)}
    for host, boot in boots.items():
        if host and boot not in remembered:
            metadata.set_own_value(tx, f"{_BOOT}{host}", None)
