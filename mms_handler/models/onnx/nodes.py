"""The nodes of a graph with the shapes, types and constants of what they compute.

What depends on parameters alone is computed here, by MXNet, so no converter meets it.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
import numpy.typing as npt

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.mx import first_line
from mms_handler.models.onnx.shapes import Inferred, Lengths, is_zero_state

Array = npt.NDArray[Any]

#: What an output of a node is called in the JSON of a symbol: the node's place, the output's.
Entry = Tuple[int, int]

_RANDOM = ("random", "_sample_", "sample_", "shuffle")


class Value(NamedTuple):
    """An array that a graph computes, takes, or has.

    Fields:
        name: of the tensor.
        shape: None if MXNet cannot infer it.
        dtype: NumPy's type.
        constant: its numbers, if they depend on no input.
    """

    name: str
    shape: Optional[Lengths]
    dtype: Any
    constant: Optional[Array] = None

    @property
    def rank(self) -> int:
        """The number of dimensions.

        Raises:
            ModelError: it is unknown.
        """
        return len(self.sides)

    @property
    def sides(self) -> Lengths:
        """The shape.

        Raises:
            ModelError: it is unknown.
        """
        if self.shape is None:
            raise ModelError(f"MXNet does not infer the shape of {self.name}")
        return self.shape


class Node(NamedTuple):
    """An operator with its inputs and outputs."""

    place: int
    operator: str
    name: str
    attributes: Mapping[str, str]
    inputs: Sequence[Value]
    outputs: Sequence[Value]

    def __str__(self) -> str:
        return f"the operator {self.operator} ({self.name})"

    def text(self, name: str, default: str = "") -> str:
        """An attribute; ``default`` if it is not set or None."""
        value = self.attributes.get(name, "None")
        return default if value == "None" else value

    def number(self, name: str, default: float) -> float:
        return float(self.text(name, str(default)))

    def whole(self, name: str, default: int) -> int:
        return int(float(self.text(name, str(default))))

    def flag(self, name: str, default: bool = False) -> bool:
        return self.text(name, str(default)) in ("True", "1")

    def wholes(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """An attribute that is a tuple of whole numbers, or one number."""
        value = ast.literal_eval(self.text(name, "()").replace("L", ""))
        values = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(map(int, values)) or tuple(default)


class Nodes(NamedTuple):
    """A graph to convert.

    Fields:
        nodes: those that depend on inputs, each after those whose outputs it takes.
        inputs: of the graph.
        zeros: arrays of zeros, for labels and states that nobody passes.
        outputs: of the graph.
    """

    nodes: Sequence[Node]
    inputs: Sequence[Value]
    zeros: Sequence[Value]
    outputs: Sequence[Value]


def nodes_of(graph: Graph, inferred: Inferred, names: Sequence[str], taken: set[str]) -> Nodes:
    """The nodes of a graph.

    Args:
        graph: the graph.
        inferred: its shapes and types.
        names: of the inputs in ONNX.
        taken: names that no node may have; they get those of the nodes, too.

    Raises:
        ModelError: the graph gives other values each time; names the operator.
    """
    internals = graph.symbol.get_internals()
    parsed = json.loads(internals.tojson())
    entries: list[Entry] = [(place, output) for place, output, *_ in parsed["heads"]]
    raw = parsed["nodes"]
    for node in raw:
        if any(word in node["op"] for word in _RANDOM):
            raise ModelError(
                f"the operator {node['op']} ({node['name']}) gives other values each time; such a "
                "model cannot be proved"
            )
    shapes = dict(zip(entries, inferred.shapes))
    types = dict(zip(entries, inferred.types))
    input_names = dict(zip(graph.names, names))
    constants = _constants(graph, internals, raw, entries, shapes)
    values: dict[Entry, Value] = {}
    for entry in entries:
        node = raw[entry[0]]
        single = (entry[0], 1) not in shapes
        name = node["name"] if single else f"{node['name']}{entry[1]}"
        is_input = node["op"] == "null" and name in input_names
        name = input_names[name] if is_input else _unique(name, taken)
        dtype = np.dtype(types[entry] or np.float32)
        values[entry] = Value(name, shapes[entry], dtype, constants.get(entry))
    converted = [
        Node(
            place,
            node["op"],
            _node_name(node, values[(place, 0)]),
            node.get("attrs", {}),
            [values[(source, output)] for source, output, *_ in node["inputs"]],
            [values[entry] for entry in entries if entry[0] == place],
        )
        for place, node in enumerate(raw)
        if node["op"] != "null" and (place, 0) not in constants
    ]
    places = {node["name"]: place for place, node in enumerate(raw) if node["op"] == "null"}
    inputs = [
        values[(places[name], 0)] if name in places else Value(input_names[name], None, dtype)
        for name, dtype in zip(graph.names, graph.dtypes)
    ]
    zeros = [
        values[(place, 0)]
        for name, place in places.items()
        if name not in input_names and (place, 0) not in constants
    ]
    heads = json.loads(graph.symbol.tojson())["heads"]
    return Nodes(converted, inputs, zeros, [values[(place, out)] for place, out, *_ in heads])


def _node_name(node: Mapping[str, Any], first: Value) -> str:
    return first.name if first.name.startswith(node["name"]) else str(node["name"])


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


# --- constants -------------------------------------------------------------------------------


def _constants(
    graph: Graph, internals: Any, raw: Sequence[Any], entries: Sequence[Entry], shapes: Any
) -> dict[Entry, Array]:
    """The numbers of what depends on no input, as far as other nodes take it."""
    fixed = _fixed(graph, raw, shapes)
    sources = {
        (source, output)
        for place, node in enumerate(raw)
        if place not in fixed
        for source, output, *_ in node["inputs"]
    }
    heads = {(place, out) for place, out, *_ in json.loads(graph.symbol.tojson())["heads"]}
    used = [entry for entry in entries if entry[0] in fixed and entry in sources | heads]
    constants: dict[Entry, Array] = {}
    computed = []
    for place, output in used:
        if raw[place]["op"] == "null":
            constants[(place, output)] = graph.parameters[raw[place]["name"]].asnumpy()
        else:
            computed.append((place, output))
    if computed:
        group = mx.sym.Group([internals[entries.index(entry)] for entry in computed])
        constants.update(zip(computed, _run(graph, group)))
    for place in fixed:  # what only constants take needs no numbers
        constants.setdefault((place, 0), np.zeros(0, np.float32))
    return constants


def _fixed(graph: Graph, raw: Sequence[Any], shapes: Any) -> set[int]:
    """The places of the nodes that depend on no input, nor on the number of rows."""
    fixed: set[int] = set()
    for place, node in enumerate(raw):
        shape = shapes.get((place, 0))
        follows_rows = shape is not None and any(length.times for length in shape)
        if node["op"] == "null":
            array = graph.parameters.get(node["name"])
            is_free = follows_rows and array is not None and is_zero_state(node["name"], array)
            if array is not None and node["name"] not in graph.names and not is_free:
                fixed.add(place)
        elif follows_rows or (not node["inputs"] and "0" in _sides(node)):
            continue  # a side of 0 follows from other shapes, which MXNet must be given
        elif all(source in fixed for source, *_ in node["inputs"]):
            fixed.add(place)
    return fixed


def _sides(node: Mapping[str, Any]) -> list[str]:
    return re.findall(r"\d+", node.get("attrs", {}).get("shape", ""))


def _run(graph: Graph, symbol: Any) -> list[Array]:
    """The outputs of a symbol that has no inputs."""
    arguments = {name: graph.parameters[name] for name in symbol.list_arguments()}
    states = {name: graph.parameters[name] for name in symbol.list_auxiliary_states()}
    try:
        executor = symbol.bind(graph.device, args=arguments, aux_states=states, grad_req="null")
        return [output.asnumpy() for output in executor.forward()]
    except mx.base.MXNetError as exc:
        raise ModelError(f"MXNet cannot compute the constants: {first_line(exc)}") from exc
