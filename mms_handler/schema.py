"""The inputs and outputs of a model: their names, shapes and types, as a manifest keeps them."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

#: The types of tensors, by the Open Inference Protocol.
TYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES"),
)

#: What a manifest has for a first dimension of any length, and for another one.
_ROWS, _ANY = "N", "any"

#: The limits of what is read: of inputs or outputs, and of their dimensions.
_MAX_TENSORS, _MAX_DIMENSIONS = 256, 32


class Tensor(NamedTuple):
    """An input or an output.

    Fields:
        name: its name.
        shape: None for a dimension of any length, as that of the rows.
        type: one of TYPES.
        content_type: of the body that a script's own function reads or writes; "" if the default
            functions read or write it, in any type.
    """

    name: str
    shape: Tuple[Optional[int], ...]
    type: str
    content_type: str = ""

    def __str__(self) -> str:
        """For a person: ``data (N, 64) FP32``."""
        shape = ", ".join(map(str, _lengths(self)))
        text = f"{self.name} ({shape}{',' if len(self.shape) == 1 else ''}) {self.type}"
        return f"{text} as {self.content_type}" if self.content_type else text


class Schema(NamedTuple):
    """What a model takes and gives; nothing is listed that is not known."""

    inputs: Sequence[Tensor] = ()
    outputs: Sequence[Tensor] = ()

    def named(self) -> list[tuple[str, Sequence[Tensor]]]:
        """Both, with their names."""
        return [("inputs", self.inputs), ("outputs", self.outputs)]


def _lengths(tensor: Tensor) -> list[Any]:
    """The lengths of a tensor's dimensions, with a word for any length."""
    words = [_ROWS if place == 0 else _ANY for place in range(len(tensor.shape))]
    return [word if length is None else length for word, length in zip(words, tensor.shape)]


def encode(schema: Schema) -> dict[str, Any]:
    """A schema as a manifest keeps it."""
    return {
        "inputs": list(map(_encoded, schema.inputs)),
        "outputs": list(map(_encoded, schema.outputs)),
    }


def _encoded(tensor: Tensor) -> dict[str, Any]:
    entry = {"name": tensor.name, "shape": _lengths(tensor), "type": tensor.type}
    return {**entry, "content_type": tensor.content_type} if tensor.content_type else entry


def read(value: Mapping[str, Any]) -> Schema:
    """Read what ``encode`` wrote.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is something else.
    """
    return Schema(_tensors(value["inputs"]), _tensors(value["outputs"]))


def _tensors(entries: Any) -> tuple[Tensor, ...]:
    if not isinstance(entries, list) or len(entries) > _MAX_TENSORS:
        raise TypeError(f"{str(entries)[:80]} is not a list of up to {_MAX_TENSORS} tensors")
    return tuple(_tensor(**entry) for entry in entries)


def _tensor(name: Any, shape: Any, type: Any, content_type: Any = "") -> Tensor:
    if not all(isinstance(text, str) for text in (name, type, content_type)):
        raise TypeError(f"the name, the type or the content type of {name!r} is not a string")
    if type not in TYPES:
        raise ValueError(f"{name!r} has the type {type!r}; expected one of {', '.join(TYPES)}")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise TypeError(f"the shape of {name!r} is not a list of up to {_MAX_DIMENSIONS} lengths")
    return Tensor(name, tuple(map(_length, shape)), type, content_type)


def _length(value: Any) -> int | None:
    if value in (_ROWS, _ANY):
        return None
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a length; expected a number, {_ROWS!r} or {_ANY!r}")
    return value
