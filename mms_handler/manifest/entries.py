"""The entries of our part of a manifest: what each one says, and what is valid in it.

What reads an entry raises ValueError or TypeError for an entry that is not valid.
"""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple, Sequence

SAMPLE = "MAR-INF/sample"  # plus a suffix for its content type
INT8 = "MAR-INF/int8-symbol.json"
TWIN = "MAR-INF/twin.onnx"


class Sample(NamedTuple):
    """The manifest's entry for the sample request.

    Attributes:
        name: of the archive's entry with the body.
        content_type: the request's Content-Type.
        accept: the request's Accept.
        reply: the reply when the archive was packed, as archive.packed_reply.encode writes it;
            None if the request was not sent then.
    """

    name: str
    content_type: str
    accept: str
    reply: Mapping[str, Any] | None = None


class Quantized(NamedTuple):
    """The manifest's entry for the int8 graph, and how well the graph agreed with the model.

    Attributes:
        type: "int8".
        symbol: name of the archive's entry with the graph.
        quantized_operators: how many operators compute in eight bits.
        operators: how many operators the whole graph has, after MXNet fused it.
        requests: how many requests it was made from and judged by.
        rows: how many rows of scores were compared.
        same_top: how many of these rows have their largest score at the same place.
        mean_difference: between predictions, as a fraction of each prediction's largest value.
        max_difference: the largest such difference.
    """

    type: str
    symbol: str
    quantized_operators: int
    operators: int
    requests: int
    rows: int
    same_top: int
    mean_difference: float
    max_difference: float


class Twin(NamedTuple):
    """The manifest's entry for the ONNX twin, and how well it agreed with the model.

    Attributes:
        file: name of the archive's entry with the twin.
        sha256: of the twin.
        inputs: their names, in the model's order.
        shapes: of a row of each input.
        fixed: whether the model takes rows of these shapes alone; else MXNet answers other rows.
        outputs: their names, in the model's order.
        max_rows: limit of rows in one run.
        cases: how many inputs were compared.
        difference: between predictions at most, as a fraction of the largest value of each.
        tolerance: the difference that is allowed.
        gain: how many times as fast as MXNet it was when it was packed; 1 if both were quick.
    """

    file: str
    sha256: str
    inputs: Sequence[str]
    shapes: Sequence[Sequence[int]]
    fixed: bool
    outputs: Sequence[str]
    max_rows: int
    cases: int
    difference: float
    tolerance: float
    gain: float


class Tuned(NamedTuple):
    """The manifest's entry for the settings that serve the model fastest, as ``tune`` found.

    Attributes:
        cpus: cores of the machine where they were found.
        workers: as the setting; None: the default.
        threads: likewise.
        batch_size: likewise.
        core: likewise.
        optimize: likewise.
    """

    cpus: float
    workers: int | None = None
    threads: int | None = None
    batch_size: int | None = None
    core: str | None = None
    optimize: str | None = None

    def settings(self) -> dict[str, Any]:
        """The settings by name, without those that have their defaults."""
        fields = self._asdict()
        del fields["cpus"]
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in self.settings().items()]
        text = ", ".join(words).replace("_", " ") or "the defaults"
        return f"{text}, for {self.cpus:g} cores"


#: The most workers, threads and requests of a batch that an archive may ask for.
_MAX_TUNED = 1024

#: The keys of Quantized's fields in a manifest.
QUANTIZED_KEYS = ("type", "symbol", "operators", "of", "inputs", "rows", "top", "mean", "most")


def read_sample(name: str, content_type: str, accept: str, reply: Any = None) -> Sample:
    """The sample's entry."""
    if not name.startswith(f"{SAMPLE}.") or "/" in name[len(SAMPLE) :]:
        raise ValueError(f"the sample is {name!r}; expected {SAMPLE} with a suffix")
    if reply is not None and not isinstance(reply, dict):
        raise TypeError(f"the sample's reply is {reply!r}; expected an object")
    return Sample(name, string(content_type), string(accept), reply)


def read_quantized(entry: Mapping[str, Any]) -> Quantized:
    """The int8 graph's entry."""
    if entry.keys() != set(QUANTIZED_KEYS):
        raise ValueError(
            f"the int8 graph has the keys {sorted(entry)}; expected {sorted(QUANTIZED_KEYS)}"
        )
    quantized = Quantized(*(entry[key] for key in QUANTIZED_KEYS))
    if (quantized.type, quantized.symbol) != ("int8", INT8):
        raise ValueError(
            f"a graph of type {quantized.type!r} is in {quantized.symbol!r}; expected 'int8' in "
            f"{INT8!r}"
        )
    if not all(isinstance(number, (int, float)) and number >= 0 for number in quantized[2:]):
        raise ValueError(f"the int8 graph's numbers are {quantized[2:]}; expected 0 or more")
    return quantized


def read_twin(entry: Mapping[str, Any]) -> Twin:
    """The ONNX twin's entry."""
    twin = Twin(**entry)
    if twin.file != TWIN:
        raise ValueError(f"the ONNX twin is {twin.file!r}; expected {TWIN!r}")
    for names in (twin.inputs, twin.outputs):
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise TypeError(f"the ONNX twin's names are {str(names)[:80]}; expected strings")
    lengths = [length for shape in twin.shapes for length in shape]
    if len(twin.shapes) != len(twin.inputs) or not all(_is_count(length) for length in lengths):
        raise ValueError("the ONNX twin's shapes are not a list of lengths for each input")
    if not (_is_count(twin.max_rows) and _is_count(twin.cases) and type(twin.fixed) is bool):
        raise ValueError("the ONNX twin's rows and cases are not counts")
    numbers = (twin.difference, twin.tolerance, twin.gain)
    if not all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers):
        raise ValueError(f"the ONNX twin's numbers are {numbers}; expected 0 or more")
    return twin._replace(sha256=string(twin.sha256))


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def read_tuned(entry: Mapping[str, Any]) -> Tuned:
    """The entry of the settings that ``tune`` found."""
    tuned = Tuned(**entry)
    counts = (tuned.workers, tuned.threads, tuned.batch_size)
    if not all(
        count is None or (type(count) is int and 0 < count <= _MAX_TUNED) for count in counts
    ):
        raise ValueError(f"the tuned numbers are {counts}; expected 1 to {_MAX_TUNED} each")
    words = (tuned.core, tuned.optimize)
    if words[0] not in (None, "auto", "off") or words[1] not in (None, "on", "off", "float"):
        raise ValueError(f"the tuned core and optimize are {words}; expected words of the settings")
    if not isinstance(tuned.cpus, (int, float)):
        raise TypeError(f"the tuned cores are {tuned.cpus!r}; expected a number")
    return tuned


def string(value: object) -> str:
    """``value``, if it is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
