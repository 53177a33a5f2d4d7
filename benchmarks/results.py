"""The results of a run, kept as JSON: a row for each round, and what could not be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping


class Results:
    """The rows of one run; none is ever dropped."""

    def __init__(self, about: Mapping[str, Any], panels: Mapping[str, Mapping[str, str]]) -> None:
        """Make empty results.

        Args:
            about: date, machine, versions, and the number and length of the rounds.
            panels: for each picture, the titles of its panels by scenario.
        """
        self.about, self.panels = dict(about), dict(panels)
        self.rows: list[dict[str, Any]] = []
        self.absent: dict[str, str] = {}
        self.tables: dict[str, str] = {}  # Markdown of other programs
        self.reached: dict[str, float] = {}  # for the picture: each target as a multiple of itself

    def add(self, scenario: str, system: str, values: Mapping[str, Any]) -> None:
        self.rows.append({"scenario": scenario, "system": system, "values": dict(values)})

    def is_absent(self, scenario: str, system: str, reason: str) -> None:
        """Note that a system could not be measured."""
        self.absent[f"{scenario}: {system}"] = " ".join(reason.split())

    def systems(self, scenario: str) -> list[str]:
        """Return the systems that were measured, in the order of their first row."""
        rows = (row for row in self.rows if row["scenario"] == scenario)
        return list(dict.fromkeys(row["system"] for row in rows))

    def column(self, scenario: str, system: str, metric: str) -> list[float]:
        """Return one number for each round."""
        key = (scenario, system)
        return [
            row["values"][metric]
            for row in self.rows
            if (row["scenario"], row["system"]) == key and metric in row["values"]
        ]

    def failures(self, scenario: str, system: str) -> list[float]:
        """Return how many errors and wrong bodies each round had."""
        key = (scenario, system)
        return [
            row["values"].get("errors", 0) + row["values"].get("wrong", 0)
            for row in self.rows
            if (row["scenario"], row["system"]) == key
        ]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self), indent=1))


def read(path: Path) -> Results:
    """Read what ``save`` wrote."""
    fields = json.loads(path.read_text())
    results = Results(fields["about"], fields["panels"])
    results.rows, results.absent = fields["rows"], fields["absent"]
    results.tables, results.reached = fields["tables"], fields["reached"]
    return results
