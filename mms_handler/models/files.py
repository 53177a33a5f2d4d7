"""Find the files of a trained model, and the shapes that the default save wrote.

model-symbol.json  model-0000.params  model-shapes.json     the default save
PREFIX-symbol.json PREFIX-EPOCH.params                      save_checkpoint, HybridBlock.export
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from mms_handler.errors import ModelError

SYMBOL, PARAMS, SHAPES = "model-symbol.json", "model-0000.params", "model-shapes.json"


class Artifacts(NamedTuple):
    """The files of one model."""

    prefix: str  # "model"
    params: Path
    symbol: Path
    shapes: Path | None


def find(model_dir: Path) -> Artifacts:
    """The artifacts in a model_dir: those of the default save, else the only pair of other names.

    Raises:
        ModelError: there are none, or there are several pairs; lists the files.
    """
    if (model_dir / SYMBOL).is_file() and (model_dir / PARAMS).is_file():
        return _artifacts(model_dir / PARAMS, "model")
    pairs = [
        _artifacts(path, match.group(1))
        for path in sorted(model_dir.glob("*.params"))
        for match in [re.fullmatch(r"([^.].*)-\d{4}\.params", path.name)]
        if match and (model_dir / f"{match.group(1)}-symbol.json").is_file()
    ]
    if len(pairs) > 1:
        raise ModelError(
            f"the model directory has several models: "
            f"{', '.join(pair.params.name for pair in pairs)}; keep only one, or define a model_fn "
            "that loads one"
        )
    if not pairs:
        files = ", ".join(sorted(path.name for path in model_dir.iterdir())[:20]) or "nothing"
        raise ModelError(
            f"the model directory has neither {SYMBOL} and {PARAMS} nor another PREFIX-symbol.json "
            f"and PREFIX-EPOCH.params (it contains: {files}); define model_fn in the script to "
            "load other files"
        )
    return pairs[0]


def _artifacts(params: Path, prefix: str) -> Artifacts:
    shapes = params.with_name(f"{prefix}-shapes.json")
    symbol = params.with_name(f"{prefix}-symbol.json")
    return Artifacts(prefix, params, symbol, shapes if shapes.is_file() else None)


def saved_shapes(model_dir: Path) -> list[tuple[int, ...]]:
    """The shapes of the inputs in the default save's file; [] without a file that can be read."""
    try:
        return [shape for _, shape in read_shapes(model_dir / SHAPES)]
    except (OSError, ModelError):
        return []


def read_shapes(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the inputs in a file of the default save.

    Raises:
        ModelError: the file is not a list of names and shapes.
    """
    try:
        saved = json.loads(path.read_text())
        shapes = [(entry["name"], tuple(entry["shape"])) for entry in saved]
    except (ValueError, TypeError, KeyError):
        shapes = []
    sizes = [size for _, shape in shapes for size in shape]
    valid = all(isinstance(size, int) and size > 0 for size in sizes)
    if not (shapes and valid and all(isinstance(name, str) for name, _ in shapes)):
        example = '[{"name": "data", "shape": [1, 784]}]'
        raise ModelError(f"{path.name} is not a list of names and shapes such as {example}")
    return shapes
