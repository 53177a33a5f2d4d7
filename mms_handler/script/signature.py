"""Bind a script's hooks to the contract's arguments, by the names of their parameters."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from mms_handler.errors import ScriptError
from mms_handler.script import spelling

#: Parameter names that mean the model (CONTRACT B7); so does a suffix ``_model`` or ``_net``.
MODEL = frozenset(
    "model models mod module mx_model net network block symbol_block predictor classifier "
    "estimator detector clf learner graph booster trained_model loaded_model".split()
)
#: Parameter names that mean the data.
DATA = frozenset(
    "data input inputs input_data input_object x array arr nda ndarray nd_array tensor batch "
    "iter data_iter iterator request payload body request_body image images instances "
    "features sample samples".split()
)
#: Arguments that a parameter gets if it has exactly this name, at any position.
BY_NAME = ("context", "ctx", "gpu_id", "request_id", "headers")


class BoundHook(NamedTuple):
    """A hook and the arguments it gets, decided once, when the model is loaded.

    Attributes:
        name: one of HOOKS.
        function: the script's function, or the default.
        positional: arguments passed by position: "model", "data", ... and some of BY_NAME.
        keywords: arguments passed by keyword: some of BY_NAME.
    """

    name: str
    function: Callable[..., Any]
    positional: tuple[str, ...]
    keywords: tuple[str, ...]

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with its share of ``arguments``; a missing one is None."""
        return self.function(
            *[arguments.get(name) for name in self.positional],
            **{name: arguments.get(name) for name in self.keywords},
        )

    @property
    def model_first(self) -> bool:
        """Whether the model comes first among the contract's arguments."""
        return next((name for name in self.positional if name not in BY_NAME), None) == "model"

    @property
    def is_default(self) -> bool:
        """Whether the function is the contract's default and not the script's."""
        function = getattr(self.function, "func", self.function)  # a partial's
        return str(getattr(function, "__module__", "")).startswith("mms_handler.")

    @property
    def by_name(self) -> list[str]:
        """The arguments that it gets because of their exact names."""
        return [name for name in (*self.positional, *self.keywords) if name in BY_NAME]

    def __str__(self) -> str:
        """The function's signature as in the script, and how it was understood."""
        suffix = f"; {', '.join(self.by_name)} by name" if self.by_name else ""
        return f"{self.name}{inspect.signature(self.function)}: {self._order_in_words()}{suffix}"

    def _order_in_words(self) -> str:
        order = [name for name in self.positional if name not in BY_NAME]
        place = {0: "first", len(order) - 1: "last"}.get(
            order.index("model") if "model" in order else -1, "between"
        )
        if self.name == "predict_fn" and len(order) > 1:
            source = "developer guide" if order[0] == "model" else "SDK"
            return f"model {place}, as the {source} documents"
        if self.name == "input_fn" and "model" in order:
            source = "developer guide" if place == "first" else "SDK"
            return f"model {place}, as the {source} documents"
        return f"gets {', '.join(order) or 'nothing'}"


def bind(name: str, function: Callable[..., Any], *, model_first: bool | None = None) -> BoundHook:
    """Bind ``function`` to the contract of a hook, in the developer guide's order or the SDK's.

    The parameters' names decide the order where they can.  A parameter with a default that is
    not in the contract keeps its default, and BY_NAME's are filled only by name.

    Args:
        name: the hook, one of HOOKS.
        function: the script's function.
        model_first: whether the model comes first in a predict_fn whose names do not show the
            order.  None: it comes last, as the SDK documents.

    Raises:
        ScriptError: the signature fits no documented form; gives the signature and those forms.

    Source: CONTRACT B7; the developer guide, "inference code interface".
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as exc:  # some built-in callables have none
        raise ScriptError(f"{name}: Python cannot list its parameters: {exc}") from exc
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    contract = [p for p in positional if p.name not in BY_NAME]
    count = len(_ARGUMENTS[name])
    contract[count:] = [p for p in contract[count:] if p.default is p.empty or p.default is None]
    names = [p.name.lower() for p in contract]
    required = sum(p.default is p.empty for p in contract)
    if not names and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return BoundHook(name, function, _ARGUMENTS[name], ())  # a wrapper hides what it wraps
    order = _order(name, names, required, model_first)
    unknown = names[len(order or ()) : required] + [
        p.name
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in BY_NAME
    ]
    if order is None or unknown:
        reason = f"; there is nothing to pass as {', '.join(unknown)}" if order is not None else ""
        meant = [name for p in unknown for name in [spelling.nearest(p, BY_NAME)] if name]
        reason += f" (did you mean {', '.join(meant)}?)" if meant else ""
        raise ScriptError(
            f"{name}{signature}: expected {_FORMS[name]}{reason}; "
            f"{', '.join(BY_NAME)} may be added by name"
        )
    by_position: list[str] = []
    remaining = iter(order)
    for p in positional:
        argument = p.name if p.name in BY_NAME else next(remaining, None)
        if argument is None:
            break
        by_position.append(argument)
    keywords = [p.name for p in parameters if p.name in BY_NAME and p.name not in by_position]
    return BoundHook(name, function, tuple(by_position), tuple(keywords))


def doubts(hook: BoundHook) -> Iterator[str]:
    """Sentences about parameters whose names are nearly names that would get another value."""
    if hook.is_default:
        return
    parameters = inspect.signature(hook.function).parameters
    arguments = dict(zip(parameters, hook.positional))
    for name, parameter in parameters.items():
        argument = arguments.get(name)
        if name in hook.keywords or name in BY_NAME or name.lower() in DATA:
            continue
        if argument is None and parameter.default is None:
            # "content" is here because it is nearly "context".
            meant = spelling.nearest(name, ("context", "content", "request_id", "gpu_id"))
            if meant in BY_NAME:
                yield f"{hook.name}: {name} keeps its default; did you mean {meant}?"
        elif argument not in (None, "model") and parameter.default is parameter.empty:
            meant = spelling.nearest(name, ("model", "block", "network"))
            if meant:
                yield f"{hook.name}: {name} gets the {argument}; did you mean {meant}?"


#: The arguments of each hook, in the order in which names that show no order are read.
_ARGUMENTS = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "process_request_fn": ("model", "data", "content_type"),
    "transform_fn": ("model", "data", "content_type", "accept"),
    "input_fn": ("data", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
}

#: The documented forms of each hook, for messages.
_FORMS = {
    "pre_model_fn": "(model_dir)",
    "model_fn": "(model_dir)",
    "model_warmup_fn": "(model_dir, model)",
    "process_request_fn": "(model, input_data, content_type)",
    "transform_fn": "(model, input_data, content_type, accept)",
    "input_fn": "(input_data, content_type), or with the model first or last",
    "predict_fn": "(block, array) or (data, model), where at least one name shows the order",
    "output_fn": "(prediction, accept)",
}


def _order(
    hook: str, names: list[str], required: int, model_first: bool | None
) -> tuple[str, ...] | None:
    """The arguments for the first parameters of ``names``; None if they fit no documented form.

    Args:
        hook: one of HOOKS.
        names: the parameters' names in lower case, without BY_NAME's.
        required: how many of these parameters have no default.
        model_first: as for ``bind``.
    """
    if hook == "transform_fn":
        return _transform_order(names, required)
    if hook == "input_fn":
        return _input_order(names, required)
    if hook == "predict_fn":
        return _predict_order(names[:2], required, model_first)
    if hook == "model_warmup_fn" and names and _is_model(names[0]):
        return ("model", "model_dir")[: len(names)]
    arguments = _ARGUMENTS[hook]
    return arguments[: len(names)] if names or arguments == ("model_dir",) else None


def _is_model(name: str) -> bool:
    return name in MODEL or name.endswith(("_model", "_net"))


def _transform_order(names: list[str], required: int) -> tuple[str, ...] | None:
    arguments = _ARGUMENTS["transform_fn"]
    if not names:
        return None
    if _is_model(names[0]):
        return arguments[: len(names)]
    if required == 3 and (len(names) == 3 or names[0] in DATA):
        return arguments[1:]
    if len(names) >= 4 or (names[1:2] and names[1] in DATA):
        return arguments[: len(names)]
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
    for is_model in (_is_model, lambda name: name not in DATA):
        places = [i for i, name in enumerate(names) if is_model(name)]
        if len(places) == 1:
            return ("model", "data") if places[0] == 0 else ("data", "model")
    return ("model", "data") if model_first else ("data", "model")
