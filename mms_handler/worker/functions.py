"""The functions of a script: their arguments by name, and the replies made of their results."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple, Sequence, Tuple

from mms_handler import codecs, media, models
from mms_handler.errors import ScriptError, attempt
from mms_handler.script.load import Script
from mms_handler.script.signature import BoundHook
from mms_handler.worker.phases import Phases
from mms_handler.worker.reply import Reply, make_reply
from mms_handler.worker.request import Request
from mms_handler.worker.results import Source, stumbled, unusable

#: ``run(request, function, *arguments)`` calls a step, and returns its result or a Failed.
#: ``request`` is None for a step that serves several requests at once.
Run = Callable[..., Any]


class Options(NamedTuple):
    """The settings that a model's answers depend on.

    Attributes:
        device: where the default input_fn puts arrays.
        accept: the content type for ``*/*`` and for a request without Accept.
        predict_order: "model,data" or "data,model", for a predict_fn whose parameters' names do
            not show the order; None: the same order as input_fn's.
        max_array_bytes: what a body's arrays may take.
        saved_shapes: of the model's inputs, from the default save's file.
    """

    device: Any
    accept: str = media.JSON
    predict_order: str | None = None
    max_array_bytes: int = codecs.MAX_ARRAY_BYTES
    saved_shapes: Sequence[Tuple[int, ...]] = ()


def run_step(request: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Attempt a step of a request; see Run."""
    return attempt(function, *arguments)


class Functions:
    """The arguments of hooks, and the reply made of their result: for Whole and Steps.

    Attributes:
        model: what model_fn returned.
        options: the settings.
        phases: what the requests that are being answered are in.
        sources: the script's functions that return arguments of others, by the arguments' names.
    """

    def __init__(self, script: Script, model: Any, options: Options) -> None:
        """``script`` has the functions."""
        self.model, self.options, self.phases = model, options, Phases()
        self.sources = {"model": Source("model_fn", script.hooks.get("model_fn"))}

    def values(self, hook: BoundHook, request: Request, **values: Any) -> dict[str, Any]:
        """The arguments for ``hook``, and some others, by the contract's names.

        ``values`` are added.
        """
        return {
            **{name: request.by_name.get(name) for name in hook.by_name},
            "ctx": self.options.device,
            "model": self.model,
            "content_type": request.content_type,
            "accept": self.accept(request),
            **values,
        }

    def accept(self, request: Request) -> str:
        """The content type, or list of them, that a request accepts."""
        return self.accepted(request.accept)

    def accepted(self, accept: str) -> str:
        """An Accept header, as sent, with the default in place of any type."""
        return self.options.accept if accept.strip() in ("", "*/*") else accept

    def call(self, hook: BoundHook, values: Mapping[str, Any]) -> Any:
        """Call a hook.

        Raises:
            ScriptError: it fails because another function returned None.
        """
        try:
            return hook(values)
        except (AttributeError, TypeError) as exc:
            arguments = {name: values.get(name) for name in hook.positional}
            error = stumbled(exc, arguments, self.sources)
            if error:
                raise error from exc
            raise

    def reply(self, request: Request, result: Any, hook: BoundHook) -> Reply:
        """The reply that ``hook`` returned.

        Raises:
            ScriptError: its result cannot be sent.
        """
        source = Source(hook.name, hook.function)
        if result is None:
            raise unusable(source, None)
        try:
            return make_reply(result, self.accept(request), self.options.accept)
        except ScriptError as exc:
            raise unusable(source, result, str(exc.__cause__)) from None

    def default_output(self, prediction: Any, accept: str) -> tuple[bytes, str]:
        """The contract's default output_fn.

        Raises:
            ScriptError: predict_fn returned nothing, or what cannot be written.
        """
        if prediction is None:
            raise unusable(self.sources["prediction"], None)
        try:
            return codecs.encode(models.to_plain(prediction), accept, self.options.accept)
        except ScriptError as exc:
            raise unusable(self.sources["prediction"], prediction, str(exc.__cause__)) from None
