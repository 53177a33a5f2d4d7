"""Find metrics in the lines that a script prints.

line ──▶ SageMaker's metric definitions ┐
     └─▶ the usual patterns             ┘ ──▶ epoch, step, [(name, value)]

The usual patterns are those of Module.fit, Speedometer, gluon's Estimator, Keras, tqdm, and of
prints such as "epoch 3: loss 0.12, accuracy 0.9".
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Iterable, NamedTuple

from mms_handler.errors import TrainingError


class Definition(NamedTuple):
    """A metric definition of SageMaker: the value is what the regex's first group matches."""

    name: str
    regex: re.Pattern[str]


class Reading(NamedTuple):
    """The metrics of a line, and to which epoch and step they belong, as far as it is known."""

    epoch: int | None
    step: int | None
    values: list[tuple[str, float]]


# --- metric definitions ----------------------------------------------------------------------


def read_definitions(path: Path) -> list[Definition]:
    """Read a JSON file of metric definitions, ``[{"Name": ..., "Regex": ...}]``.

    Raises:
        TrainingError: the file cannot be read, or a definition is not valid; names it.

    Source: SageMaker's API reference, MetricDefinition.
    """
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise TrainingError(f"cannot read the metric definitions {path}: {exc}") from exc
    if not isinstance(entries, list):
        raise TrainingError(
            f"the metric definitions {path} are a JSON {type(entries).__name__}, but must be a "
            'list: [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]'
        )
    return [
        definition(entry, f"metric definition {n} of {path}") for n, entry in enumerate(entries)
    ]


def definition(entry: Any, where: str = "a metric definition") -> Definition:
    """The definition in an object with ``Name`` and ``Regex``.

    Raises:
        TrainingError: it is not one, or the regex is not valid.
    """
    name, regex = (
        (entry.get("Name"), entry.get("Regex")) if isinstance(entry, dict) else (None, None)
    )
    if not (isinstance(name, str) and name and isinstance(regex, str) and regex):
        raise TrainingError(f"{where} must be an object with the texts Name and Regex: {entry!r}")
    try:
        return Definition(name, re.compile(regex))
    except re.error as exc:
        raise TrainingError(
            f"{where}: the Regex of {name} is not a regular expression: {exc}: {regex}"
        ) from exc


def defined(definition: Definition, line: str) -> list[tuple[str, float]]:
    """The values that a definition finds in a line; matches that are no numbers are left out."""
    values = []
    for match in definition.regex.finditer(line):
        text = match.group(1 if definition.regex.groups else 0)
        try:
            values.append((definition.name, float(text)))
        except (TypeError, ValueError):
            continue
    return values


# --- the usual patterns ----------------------------------------------------------------------

_NUMBER = r"([-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+|nan|inf))(?:%|ms|s)?(?![\w:/]|\.\d)"

#: Module.fit's "Epoch[0]", gluon's "[Epoch 0]", Keras' "Epoch 1/10", "epoch 3:", "epoch=3"; and
#: Speedometer's "Iter[0] Batch" where there is no metric.
_EPOCH = re.compile(r"(?i)\b(?:epochs?(?: ?[\[:=#]| )\s?|iter\[(?=\d+\] batch))(\d+)")

#: Speedometer's "Batch [20-40]", "step 20", "[Batch 20]", "iteration: 20"; a bar's "20/100 [".
_BATCH = re.compile(r"(?i)\bbatch(?: ?[\[:=#]| )\s?(?:\d+-)?(\d+)")
_STEP = re.compile(r"(?i)\b(?:step|iter(?:ation)?)(?: ?[\[:=#]| )\s?(\d+)")
_BAR = re.compile(r"(?<![\d/])(\d+)/\d+ ?\[")

_DATA = "train|training|val|valid|validation|test|eval"

#: "Train-accuracy=0.93", "Time cost=1.2", "val_loss: 0.3", "training: accuracy=0.9".
_PAIR = re.compile(
    rf"(?i)(?<![\w./\-])((?:(?:{_DATA}|time):? )?[a-z_][\w./\-]{{0,60}}) ?[=:] ?{_NUMBER}"
)

#: "loss 0.12", "val accuracy 0.9".
_SPOKEN = re.compile(
    rf"(?i)(?<![\w./\-])((?:(?:{_DATA})[ _\-])?(?:loss|acc|accuracy|error|mse|rmse|mae|f1|auc|"
    rf"perplexity|precision|recall)) {_NUMBER}"
)

_PLACES = frozenset(("epoch", "epochs", "batch", "step", "iter", "iteration", "samples", "eta"))

#: Every line with a metric has one of these words, or is a bar.
_WORDS = (b"epoch", b"batch", b"step", b"iter")


def has_hint(output: bytes) -> bool:
    """Whether there may be a metric in lines, by the usual patterns; quick, as most have none."""
    lower = output.lower()
    return any(word in lower for word in _WORDS) or (b"/" in output and b"[" in output)


def epoch_of(line: str) -> int | None:
    """The epoch that a line names."""
    match = _EPOCH.search(line)
    return int(match.group(1)) if match else None


def usual(line: str, epoch: int | None = None) -> Reading:
    """The metrics that a line has by the usual patterns.

    Args:
        line: without its end.
        epoch: of the lines before; a line that only names its step belongs to it.
    """
    own_epoch = epoch_of(line)
    match = _BATCH.search(line) or _STEP.search(line) or _BAR.search(line)
    step = int(match.group(1)) if match else None
    if own_epoch is None and step is None:
        return Reading(None, None, [])
    pairs: Iterable[tuple[str, str]] = [*_PAIR.findall(line), *_SPOKEN.findall(line)]
    values = [
        (name.replace(":", ""), float(text)) for name, text in pairs if name.lower() not in _PLACES
    ]
    return Reading(epoch if own_epoch is None else own_epoch, step, values)


# --- what a metric's name says ---------------------------------------------------------------

_SPEED = re.compile(r"(?i)time|cost|speed|\blr\b|rate")
_LOWER = re.compile(r"(?i)loss|err|mse|mae|perplexity|entropy|nll|time|cost")
_HIGHER = re.compile(r"(?i)acc|f1|auc|precision|recall|score|iou|dice|bleu|top|speed")


def better(name: str) -> str | None:
    """Whether a "lower" or a "higher" value is better; None if the metric's name does not say."""
    if _LOWER.search(name):
        return "lower"
    return "higher" if _HIGHER.search(name) else None


def rank(name: str) -> int:
    """Where to show a metric: losses, then accuracies, unknown ones, speeds and times."""
    if _SPEED.search(name):
        return 3
    return {"lower": 0, "higher": 1}.get(better(name) or "", 2)
