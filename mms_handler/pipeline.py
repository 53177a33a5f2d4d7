"""From one request to one reply.  Knows the contract; knows no server.

    body ─decode─▶ array ─▶ NDArray ─▶ data ─predict─▶ prediction ─encode─▶ body
    └─────── input_fn ────────┘         predict_fn        └──── output_fn ────┘
    └─────────────────────────────── transform_fn ────────────────────────────┘

For a Module, ``data`` is a DataIter of the Module's own batch size; for a Block, the NDArray.
What the script leaves out has the contract's default, passed its arguments the same way.  A
process_request_fn, which the legacy containers knew, stands for input_fn and predict_fn together.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, Mapping, NamedTuple

from mms_handler import codecs, models
from mms_handler.errors import BadInput, ScriptError
from mms_handler.script import Bound, bind

log = logging.getLogger(__name__)


class Reply(NamedTuple):
    """What goes back to the client."""

    body: bytes
    content_type: str
    status: int = 200


class Text(str):
    """A body of text.  Scripts were written against str and against bytes; this serves both."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> Text:
        return self


class Pipeline:
    """A loaded model, with the script's functions where it has them.

    Raises (when made):
        ScriptError: a function's signature fits no documented form, or nothing can run a
            model of this kind.
    """

    def __init__(
        self,
        hooks: Mapping[str, Callable[..., Any]],
        model: Any,
        *,
        device: Any,
        accept: str = codecs.JSON,
        predict_order: str | None = None,
    ) -> None:
        """Bind ``hooks`` to ``model``.

        Args:
            hooks: the script's functions by name; may be empty.
            model: what model_fn returned.
            device: where the default input_fn puts arrays.
            accept: the content type for ``*/*`` and for a request without Accept.
            predict_order: "model,data" or "data,model", for a predict_fn whose parameters'
                names do not tell.
        """
        self.model, self._device, self._accept = model, device, accept
        self.bound: list[Bound] = []
        if "transform_fn" in hooks:
            self._transform = self._bind("transform_fn", hooks["transform_fn"])
            self._answer = self._transformed
            _warn_of_ignored(hooks, "transform_fn", "process_request_fn", *_STEPS)
            return
        if "process_request_fn" in hooks:
            self._process = self._bind("process_request_fn", hooks["process_request_fn"])
            self._output = self._bind("output_fn", hooks.get("output_fn", self._default_output))
            self._answer = self._processed
            _warn_of_ignored(hooks, "process_request_fn", "input_fn", "predict_fn")
            return
        self._answer = self._stepped
        defaults = models.is_module(model) or models.is_block(model)
        if not defaults and "predict_fn" not in hooks:
            raise ScriptError(
                f"model_fn returned a {type(model).__name__}; without transform_fn or predict_fn "
                "only a Module or a gluon Block can be served"
            )
        self._input = self._bind("input_fn", hooks.get("input_fn", self._default_input))
        self._predict = self._bind(
            "predict_fn",
            hooks.get("predict_fn", models.predict),
            model_first=(
                self._input.model_first if predict_order is None else predict_order == "model,data"
            ),
        )
        self._output = self._bind("output_fn", hooks.get("output_fn", self._default_output))
        # The guide's predict_fn(module, data) takes a DataIter, whoever made the array; the
        # SDK's predict_fn(data, model) takes what the script's own input_fn returned.
        self._by_script = "predict_fn" in hooks
        self._wraps = models.is_module(model) and (
            "input_fn" not in hooks or "predict_fn" not in hooks or self._predict.model_first
        )

    def _bind(self, hook: str, func: Callable[..., Any], model_first: bool | None = None) -> Bound:
        bound = bind(hook, func, model_first=model_first)
        self.bound.append(bound)
        return bound

    def transform(
        self, body: bytes, content_type: str, accept: str, by_name: Mapping[str, Any]
    ) -> Reply:
        """Serve one request.

        Args:
            body: as it came.
            content_type: the header as sent; never empty.
            accept: the header as sent, or "".
            by_name: for functions that ask by name: context, gpu_id, request_id, headers.

        Raises:
            HandlerError: written to be read by the client.
            Exception: anything else is the script's, or a bug.
        """
        accept = self._accept if accept.strip() in ("", "*/*") else accept
        given = {
            **by_name,
            "ctx": self._device,
            "model": self.model,
            "data": body,
            "content_type": content_type,
            "accept": accept,
        }
        return self._reply(self._answer(given), accept)

    def _transformed(self, given: Mapping[str, Any]) -> Any:
        return self._transform({**given, "data": _for_script(given)})

    def _processed(self, given: Mapping[str, Any]) -> Any:
        """What the legacy containers had for Modules: reading and predicting in one function."""
        prediction = self._process({**given, "data": _for_script(given)})
        return self._output({**given, "prediction": prediction})

    def _stepped(self, given: Mapping[str, Any]) -> Any:
        data = self._read({**given, "data": _for_script(given)})
        if self._wraps and models.is_array(data):
            data = models.to_data(data, self.model)
        prediction = self._predict({**given, "data": data})
        return self._output({**given, "prediction": prediction})

    def _read(self, given: Mapping[str, Any]) -> Any:
        """Call input_fn.  What a script's own does not understand is the client's fault."""
        try:
            return self._input(given)
        except ValueError as exc:
            raise BadInput(f"input_fn refused the body: {exc}") from exc
        except (LookupError, TypeError) as exc:  # the body's fault, in words for programmers
            raise BadInput(f"input_fn cannot read the body: {type(exc).__name__}") from exc

    def _default_input(self, input_data: bytes | Text, content_type: str) -> Any:
        value = codecs.decode(input_data, content_type)
        if isinstance(value, dict) and self._by_script:
            value = models.only(value)
        return models.to_ndarray(value, self.model, self._device)

    def _default_output(self, prediction: Any, accept: str) -> tuple[bytes, str]:
        return codecs.encode(models.to_plain(prediction), accept, self._accept)

    def _reply(self, answer: Any, accept: str) -> Reply:
        """The reply in ``answer``, in any of the forms scripts have returned it (CONTRACT B7)."""
        while _is_pair(answer) and _is_pair(answer[0]) and "/" in str(answer[0][1]):
            answer = answer[0]  # transform_fn returned (output_fn(...), content_type)
        if all(hasattr(answer, name) for name in _RESPONSE):
            pair = (answer.get_data(), str(answer.mimetype or "") or None)
            return self._reply(pair, accept)._replace(status=int(answer.status_code))
        value, content_type = answer if _is_pair(answer) else (answer, None)
        if value is None:
            return Reply(b"", content_type or self._single(accept))
        if isinstance(value, str):
            value = value.encode("utf-8")
        if isinstance(value, (bytes, bytearray)):
            return Reply(bytes(value), content_type or self._single(accept))
        value = models.to_plain(value)
        if content_type is None:
            return Reply(*codecs.encode(value, accept, self._accept))
        written_as = content_type if codecs.writes(content_type) else codecs.JSON
        body, _ = codecs.encode(value, codecs.main_type(written_as), self._accept)
        return Reply(body, content_type)  # as the script has it: odd types pass through

    def _single(self, accept: str) -> str:
        """One content type for a bare body: what Accept wants most, unless that is a range."""
        wanted = max(codecs.ranges(accept), key=lambda one: one[1])[0]
        return self._accept if "*" in wanted else wanted


#: The functions of a request when neither transform_fn nor process_request_fn takes it.
_STEPS = ("input_fn", "predict_fn", "output_fn")

#: What a web framework's response has.
_RESPONSE = ("get_data", "mimetype", "status_code")

for _kind in ("image/jpeg", "image/png", "application/x-image"):
    codecs.register(codecs.Codec(_kind, models.decode_image, None))


def _warn_of_ignored(hooks: Mapping[str, Any], taker: str, *others: str) -> None:
    ignored = [name for name in others if name in hooks]
    if ignored:
        log.warning("%s takes the request; ignored: %s", taker, ", ".join(ignored))


def _is_pair(answer: Any) -> bool:
    """Whether ``answer`` is the contract's (body, content type)."""
    pair = isinstance(answer, tuple) and len(answer) == 2
    return pair and (answer[1] is None or isinstance(answer[1], str))


def _for_script(given: Mapping[str, Any]) -> bytes | Text:
    """The body as the contract hands it out: text for JSON and CSV, bytes otherwise."""
    body: bytes = given["data"]
    return (
        Text(codecs.text(body, given["content_type"]))
        if codecs.is_text(given["content_type"])
        else body
    )
