"""Everything that was measured, one row a round, and what could not be: as JSON in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping


class Results:
    """Rows of one run; none is ever dropped."""

    def __init__(self, about: Mapping[str, Any], panels: Mapping[str, Mapping[str, str]]) -> None:
        """Nothing is measured yet.

        Args:
            about: date, machine, versions, and how many rounds of how many seconds.
            panels: of each picture, scenarios and their titles.
        """
        self.about, self.panels = dict(about), dict(panels)
        self.rows: list[dict[str, Any]] = []
        self.absent: dict[str, str] = {}
        self.tables: dict[str, str] = {}  # Markdown that others made

    def add(self, scenario: str, system: str, values: Mapping[str, Any]) -> None:
        self.rows.append({"scenario": scenario, "system": system, "values": dict(values)})

    def is_absent(self, scenario: str, system: str, reason: str) -> None:
        """Note that a system could not be measured."""
        self.absent[f"{scenario}: {system}"] = reason

    def systems(self, scenario: str) -> list[str]:
        """Systems that were measured, in the order in which they first were."""
        return list(dict.fromkeys(r["system"] for r in self.rows if r["scenario"] == scenario))

    def column(self, scenario: str, system: str, metric: str) -> list[float]:
        """One number a round."""
        wanted = (scenario, system)
        return [
            row["values"][metric]
            for row in self.rows
            if (row["scenario"], row["system"]) == wanted and metric in row["values"]
        ]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self), indent=1))


def read(path: Path) -> Results:
    """What ``save`` wrote."""
    told = json.loads(path.read_text())
    results = Results(told["about"], told["panels"])
    results.rows, results.absent = told["rows"], told["absent"]
    results.tables = told["tables"]
    return results
