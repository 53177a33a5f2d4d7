"""The ONNX graph while it is made: its nodes, and its constants as far as a node takes them."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from mms_handler.models.onnx.shapes import Length

Array = npt.NDArray[Any]


class Builder:
    """Collects what converters make.

    Attributes:
        nodes: ONNX's, each after those whose tensors it takes.
        taken: all names, of which none may be used twice.
    """

    def __init__(self, taken: set[str]) -> None:
        """Begin an empty graph; ``taken`` are the names of the inputs, outputs and nodes."""
        self.nodes: list[Any] = []
        self.taken = taken
        self._constants: Dict[str, Any] = {}
        self._rows: str | None = None
        self._prefix = ""

    def begin(self, prefix: str) -> None:
        """Name what is made from now on after a node."""
        self._prefix = prefix

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, which has a new name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs, which have new names."""
        names = [self.fresh(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, names[0], **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """A tensor of known numbers."""
        name = self.fresh("constant")
        self._constants[name] = np.asarray(value, dtype)
        return name

    def keep(self, name: str, value: Array) -> None:
        """A tensor of known numbers with this name."""
        self._constants[name] = value

    def add_tensor(self, tensor: Any) -> None:
        """A tensor of ONNX with its own name."""
        self._constants[tensor.name] = tensor

    def count_rows(self, tensor: str, axis: int) -> None:
        """Say which input, and where in its shape, has the number of rows."""
        self.begin("rows")
        shape = self.op("Shape", tensor)
        self._rows = self.op("Gather", shape, self.constant([axis]), axis=0)

    def shape(self, lengths: Iterable[Length]) -> str:
        """A tensor with a shape, which may follow the number of rows."""
        lengths = list(lengths)
        if not any(length.times for length in lengths):
            return self.constant([length.fixed for length in lengths])
        return self.op("Concat", *map(self._length, lengths), axis=0)

    def _length(self, length: Length) -> str:
        if not length.times:
            return self.constant([length.fixed])
        assert self._rows
        name = self._rows
        if length.times != 1:
            name = self.op("Mul", name, self.constant([length.times]))
        return self.op("Add", name, self.constant([length.fixed])) if length.fixed else name

    def reshape(self, tensor: str, lengths: Sequence[Length]) -> str:
        """A tensor in another shape."""
        free = [length for length in lengths if length.times]
        if len(free) == 1:  # ONNX finds it
            shape = self.constant([-1 if each.times else each.fixed for each in lengths])
        else:
            shape = self.shape(lengths)
        return self.op("Reshape", tensor, shape)

    def fresh(self, hint: str) -> str:
        """A name that is not taken."""
        base = f"{self._prefix}/{hint}"
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}{count}"
        self.taken.add(name)
        return name

    def finish(self, outputs: Sequence[str]) -> tuple[list[Any], list[Any]]:
        """The nodes and the constants on which these outputs depend."""
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed |= set(node.input)
        tensors = [_tensor(name, v) for name, v in self._constants.items() if name in needed]
        return nodes[::-1], tensors


def _tensor(name: str, value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return value
    return numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
