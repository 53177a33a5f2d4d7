"""Fit a script's hooks to the arguments of the contract, by their parameters' names."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Mapping, NamedTuple

from mms_handler.errors import ScriptError

#: Parameter names that say "the model" (CONTRACT B7); so does a suffix ``_model`` or ``_net``.
MODEL = frozenset(
    "model models mod module mx_model net network block symbol_block predictor classifier "
    "estimator detector clf learner graph booster trained_model loaded_model".split()
)
#: Parameter names that say "the data".
DATA = frozenset(
    "data input inputs input_data input_object x array arr nda ndarray nd_array tensor batch "
    "iter data_iter iterator request payload body request_body image images instances "
    "features sample samples".split()
)
#: What is passed to a parameter of exactly this name, wherever it stands.
BY_NAME = ("context", "ctx", "gpu_id", "request_id", "headers")


class Bound(NamedTuple):
    """A hook and what it is passed, decided once, at load."""

    hook: str
    func: Callable[..., Any]
    order: tuple[str, ...]  # by position: "model", "data", ... and some of BY_NAME
    named: tuple[str, ...]  # by name: some of BY_NAME

    def __call__(self, given: Mapping[str, Any]) -> Any:
        """Call the hook with its part of ``given``; what was not given is None."""
        return self.func(
            *[given.get(name) for name in self.order],
            **{name: given.get(name) for name in self.named},
        )

    @property
    def model_first(self) -> bool:
        return next((name for name in self.order if name not in BY_NAME), None) == "model"

    @property
    def is_default(self) -> bool:
        """Whether it is the contract's own, not the script's."""
        func = getattr(self.func, "func", self.func)  # a partial's
        return str(getattr(func, "__module__", "")).startswith("mms_handler.")

    def __str__(self) -> str:
        """The function as it stands in the script, and how it is understood."""
        by_name = [name for name in (*self.order, *self.named) if name in BY_NAME]
        also = f"; {', '.join(by_name)} by name" if by_name else ""
        return f"{self.hook}{inspect.signature(self.func)}: {self._understood()}{also}"

    def _understood(self) -> str:
        order = [name for name in self.order if name not in BY_NAME]
        place = {0: "first", len(order) - 1: "last"}.get(
            order.index("model") if "model" in order else -1, "between"
        )
        if self.hook == "predict_fn" and len(order) > 1:
            guide = order[0] == "model"
            return f"model {place}, as the {'developer guide' if guide else 'SDK'} documents"
        if self.hook == "input_fn" and "model" in order:
            source = "developer guide" if place == "first" else "SDK"
            return f"model {place}, as the {source} documents"
        return f"given {', '.join(order) or 'nothing'}"


def bind(hook: str, func: Callable[..., Any], *, model_first: bool | None = None) -> Bound:
    """Fit ``func`` to the contract of ``hook``, in the guide's order or the SDK's.

    The order is told by the parameters' names where they tell it.  Parameters with defaults
    beyond the contract's are never filled, and BY_NAME's only by name.

    Args:
        hook: one of HOOKS.
        func: the script's function.
        model_first: for a predict_fn whose names tell nothing: whether the model comes first.
            None: it comes last, as the SDK documents.

    Raises:
        ScriptError: the signature fits no documented form; says what was found and wanted.

    Source: CONTRACT B7; the developer guide, "inference code interface".
    """
    try:
        signature = inspect.signature(func)
    except (ValueError, TypeError) as exc:  # some built-in callables have none
        raise ScriptError(f"{hook}: its parameters cannot be told: {exc}") from exc
    parameters = list(signature.parameters.values())
    ours = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    contract = [p for p in ours if p.name not in BY_NAME]
    most = len(_LONGEST[hook])
    contract[most:] = [p for p in contract[most:] if p.default is p.empty or p.default is None]
    names = [p.name.lower() for p in contract]
    required = sum(p.default is p.empty for p in contract)
    if not names and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return Bound(hook, func, _LONGEST[hook], ())  # a wrapper that hides what it wraps
    order = _order(hook, names, required, model_first)
    strays = names[len(order or ()) : required] + [
        p.name
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in BY_NAME
    ]
    if order is None or strays:
        strange = f"; nothing is known to pass as {', '.join(strays)}" if order else ""
        raise ScriptError(
            f"{hook}{signature}: wanted {_WANTED[hook]}{strange}; "
            f"{', '.join(BY_NAME)} may be added by name"
        )
    by_position: list[str] = []
    rest = iter(order)
    for p in ours:
        name = p.name if p.name in BY_NAME else next(rest, None)
        if name is None:
            break
        by_position.append(name)
    named = [p.name for p in parameters if p.name in BY_NAME and p.name not in by_position]
    return Bound(hook, func, tuple(by_position), tuple(named))


_LONGEST = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "process_request_fn": ("model", "data", "content_type"),
    "transform_fn": ("model", "data", "content_type", "accept"),
    "input_fn": ("data", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
}

_WANTED = {
    "pre_model_fn": "(model_dir)",
    "model_fn": "(model_dir)",
    "model_warmup_fn": "(model_dir, model)",
    "process_request_fn": "(model, input_data, content_type)",
    "transform_fn": "(model, input_data, content_type, accept)",
    "input_fn": "(input_data, content_type), or with the model first or last",
    "predict_fn": "(block, array) or (data, model), one of them with a name that tells",
    "output_fn": "(prediction, accept)",
}


def _order(
    hook: str, names: list[str], required: int, model_first: bool | None
) -> tuple[str, ...] | None:
    """What the parameters ``names`` mean to ``hook``, as far as the contract goes; or None."""
    if hook == "transform_fn":
        return _transform_order(names, required)
    if hook == "input_fn":
        return _input_order(names, required)
    if hook == "predict_fn":
        return _predict_order(names[:2], required, model_first)
    if hook == "model_warmup_fn" and names and _is_model(names[0]):
        return ("model", "model_dir")[: len(names)]
    longest = _LONGEST[hook]
    return longest[: len(names)] if names or longest == ("model_dir",) else None


def _is_model(name: str) -> bool:
    return name in MODEL or name.endswith(("_model", "_net"))


def _transform_order(names: list[str], required: int) -> tuple[str, ...] | None:
    longest = _LONGEST["transform_fn"]
    if not names:
        return None
    if _is_model(names[0]) or required >= 4:
        return longest[: len(names)]
    if required == 3 and (len(names) == 3 or names[0] in DATA):
        return longest[1:]
    if len(names) >= 4 or (names[1:2] and names[1] in DATA):
        return longest[: len(names)]
    return None


def _input_order(names: list[str], required: int) -> tuple[str, ...] | None:
    places = [i for i, name in enumerate(names[:3]) if _is_model(name)]
    if len(places) > 1 or not names:
        return None
    if not places:
        count = 3 if required >= 3 else 2
        return ("data", "content_type", "model")[: min(count, len(names))]
    order = ["data", "content_type"]
    order.insert(places[0], "model")
    return tuple(order[: len(names)]) if "data" in order[: len(names)] else None


def _predict_order(
    names: list[str], required: int, model_first: bool | None
) -> tuple[str, ...] | None:
    if required == 1 and not any(map(_is_model, names)):
        names = names[:1]  # predict_fn(data, threshold=0.5)
    if len(names) == 1:
        return None if _is_model(names[0]) else ("data",)
    if len(names) < 2:
        return None
    for told in (_is_model, lambda name: name not in DATA):
        places = [i for i, name in enumerate(names) if told(name)]
        if len(places) == 1:
            return ("model", "data") if places[0] == 0 else ("data", "model")
    return ("model", "data") if model_first else ("data", "model")
