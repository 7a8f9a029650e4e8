"""The report of a run: its figures, the rows that are missing, and its circumstances."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from durableq.bench.figures import Figure, Spread, short

#: The version of the JSON document. Names are only added to a version.
SCHEMA: Final = 1
#: Two tables, each of which fits into 80 columns.
COLUMNS: Final = ("ROW", "FIGURE", "TARGET", "MET")
DETAILS: Final = ("ROW", "QUARTILES, DETAILS")
_MET: Final = {True: "yes", False: "NO", None: ""}
INTERRUPTED: Final = "The run was interrupted."


class Planned(NamedTuple):
    """A row that a run is to measure; `synchronous` is empty if it is measured in one setting."""

    name: str
    synchronous: str

    def __str__(self) -> str:
        return f"{self.name} ({self.synchronous})" if self.synchronous else self.name


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A measured peer.

    Args:
        version: of its distribution.
        promise: the promises that differ from durableq's.
    """

    version: str
    promise: str


@dataclass(slots=True)
class Report:
    """The figures of a run, and its circumstances.

    Args:
        machine: the machine.
        load_before: the load average of the last minute, at the start.
        peers: the installed peers by name, if they were to be measured.
        missing_peers: the names of those that are not installed.
        sqlite: the version of SQLite; empty if a server was measured.
        postgres: of a measured server the version, settings and what the time is of.
        figures: the measured rows.
        missing: the rows that are not measured, each with the reason.
        exit_code: 0; 1 if a row failed; 128 and its number after a signal.
        seconds: the duration.
        load_after: the load average at the end.
    """

    machine: str
    load_before: float
    peers: dict[str, PeerInfo]
    missing_peers: list[str]
    sqlite: str = ""
    postgres: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    missing: dict[Planned, str] = field(default_factory=dict)
    exit_code: int = 0
    seconds: float = 0.0
    load_after: float = 0.0

    @property
    def missing_by_reason(self) -> dict[str, str]:
        """For each reason the rows that are not measured."""
        found: dict[str, list[str]] = {}
        for row, reason in self.missing.items():
            found.setdefault(reason, []).append(str(row))
        return {reason: "; ".join(rows) for reason, rows in found.items()}

    def plan(self, rows: Iterable[Planned]) -> None:
        """Count rows as missing until they are measured."""
        self.missing = dict.fromkeys(rows, INTERRUPTED)

    def as_dict(self) -> dict[str, Any]:
        """Return it under stable names."""
        return {
            "schema": SCHEMA,
            "machine": self.machine,
            "sqlite": self.sqlite,
            "postgres": self.postgres or None,
            "load": {"before": self.load_before, "after": self.load_after},
            "seconds": round(self.seconds, 1),
            "peers": {
                name: {"version": peer.version, "promise": peer.promise}
                for name, peer in self.peers.items()
            },
            "missing_peers": self.missing_peers,
            "rows": [figure.as_dict() for figure in self.figures],
            "missing": [
                {"name": row.name, "synchronous": row.synchronous or None, "reason": reason}
                for row, reason in self.missing.items()
            ],
        }

    @property
    def heading(self) -> str:
        """The circumstances, in a line."""
        load = f"load {self.load_before} before and {self.load_after} after"
        storage = f"SQLite {self.sqlite or 'unknown'}"
        if self.postgres:
            version, *settings = (f"{name} {value}" for name, value in self.postgres.items())
            storage = f"PostgreSQL {version.partition(' ')[2]} ({', '.join(settings)})"
        return f"{self.machine}, {storage}, {load}, {self.seconds:.0f} s"

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The cells of COLUMNS for each row."""
        return [
            (
                figure.name,
                f"{short(figure.value.median)} {figure.row.unit}",
                figure.row.bound,
                _MET[figure.is_reached],
            )
            for figure in self.figures
        ]

    @property
    def details(self) -> list[tuple[str, ...]]:
        """The cells of DETAILS for each row."""
        return [
            (
                figure.name,
                ", ".join(
                    (
                        f"{short(figure.value.low)} to {short(figure.value.high)}",
                        *(_detail(name, value) for name, value in figure.details.items()),
                    )
                ),
            )
            for figure in self.figures
        ]


def _detail(name: str, value: Spread) -> str:
    """Return a detail with its unit, if its name ends with one, behind the figure."""
    name, _, unit = name.rpartition(", ") if ", " in name else (name, "", "")
    return f"{name} {short(value.median)} {unit}".rstrip()
