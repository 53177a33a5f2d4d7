"""Rules for a page of metrics, as promtool and Prometheus's naming guide have them.

prometheus-client's parser reads the page, too; promtool where it is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from typing import Iterator

from prometheus_client.parser import text_string_to_metric_families

PREFIX = "mms_handler_"

#: Gauges without a unit: they count things.
_THINGS = {
    *("queue_length", "queue_capacity", "requests_in_flight", "workers", "in_flight"),
    *("connections", "jvm_threads", "open_fds", "max_fds", "batch_size", "script_value"),
}
_UNITS = ("_seconds", "_bytes", "_ratio")
_SAMPLE = re.compile(
    r"(?P<name>[a-z_]+)(?:\{(?P<labels>(?:[a-z_]+=\"(?:[^\"\\\n]|\\[\"\\n])*\",?)*)\})? "
    r"(?P<value>\S+)"
)
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_SUFFIXES = {
    "counter": ("",),
    "gauge": ("",),
    "summary": ("_sum", "_count"),
    "histogram": ("_bucket", "_sum", "_count"),
}

#: A sample: its labels, and its value.
_Sample = tuple


def checked(text: str) -> dict[str, dict[tuple, float]]:
    """The values of a page that follows the rules, by family's or sample's name and labels."""
    samples = {name: dict(each) for name, each in _families(text)}
    assert {name for name in samples if not name.startswith(PREFIX)} == set()
    read = list(text_string_to_metric_families(text))
    assert sum(len(family.samples) for family in read) == sum(map(len, samples.values()))
    if promtool := shutil.which("promtool"):
        done = subprocess.run(
            [promtool, "check", "metrics"],
            input=text,
            text=True,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    return samples


def _families(text: str) -> Iterator[tuple[str, list[tuple[tuple, float]]]]:
    """Each kind of sample, family by family; families do not mix, and come once."""
    assert text.endswith("\n")
    seen: set[str] = set()
    blocks = re.split(r"^(?=# HELP )", text, flags=re.MULTILINE)
    assert blocks[0] == ""
    for block in blocks[1:]:
        head, kind_line, *lines = block.splitlines()
        name, help_text = re.fullmatch(r"# HELP ([a-z_]+) (\S.*)", head).groups()
        kind = re.fullmatch(rf"# TYPE {name} (counter|gauge|histogram|summary)", kind_line)[1]
        assert name not in seen, name
        seen.add(name)
        assert help_text.endswith("."), head
        check_name(name, kind)
        yield from _samples(name, kind, lines)


def check_name(name: str, kind: str) -> None:
    """A counter ends with _total; what has a unit has a base unit, before that."""
    assert name.startswith(PREFIX)
    assert (kind == "counter") == name.endswith("_total"), name
    words = name[len(PREFIX) :].split("_")
    assert not {"counter", "gauge", "histogram", "summary", "milliseconds", "ms", "mb"} & set(words)
    assert not name.endswith(("_sum", "_count", "_bucket"))
    if kind != "counter":
        assert name.endswith(_UNITS) or name[len(PREFIX) :] in _THINGS, name


def _samples(name: str, kind: str, lines: list[str]) -> Iterator[tuple[str, list]]:
    samples: dict[str, list[tuple[tuple, float]]] = defaultdict(list)
    for line in lines:
        match = _SAMPLE.fullmatch(line)
        assert match, line
        assert match["name"] in [name + suffix for suffix in _SUFFIXES[kind]], line
        labels = tuple(sorted(_LABEL.findall(match["labels"] or "")))
        samples[match["name"]].append((labels, float(match["value"])))
        assert (
            kind == "gauge" or name.endswith("script_value") or samples[match["name"]][-1][1] >= 0
        )
    for sample, each in samples.items():
        assert len(dict(each)) == len(each), f"{sample} has a series twice"
    if kind == "histogram" and samples:
        _check_histogram(name, samples)
    yield from samples.items()


def _check_histogram(name: str, samples: dict[str, list[tuple[tuple, float]]]) -> None:
    """Buckets rise with their bounds; the last is +Inf and has all."""
    buckets: dict[tuple, list[tuple[float, float]]] = defaultdict(list)
    for labels, value in samples[f"{name}_bucket"]:
        rest = tuple(pair for pair in labels if pair[0] != "le")
        buckets[rest].append((float(dict(labels)["le"]), value))
    counts, sums = dict(samples[f"{name}_count"]), dict(samples[f"{name}_sum"])
    assert buckets.keys() == counts.keys() == sums.keys()
    for labels, pairs in buckets.items():
        assert pairs == sorted(pairs), (name, labels)
        assert [value for _, value in pairs] == sorted(value for _, value in pairs)
        assert pairs[-1] == (float("inf"), counts[labels])
