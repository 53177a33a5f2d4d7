"""From requests to replies, one for each.  Knows the contract; knows no server.

    body ─decode─▶ array ─▶ NDArray ─▶ data ─predict─▶ prediction ─encode─▶ body
    └─────── input_fn ────────┘         predict_fn        └──── output_fn ────┘
    └─────────────────────────────── transform_fn ────────────────────────────┘

For a Module, a script's predict_fn is given a DataIter of the Module's own batch size; for a Block,
the NDArray.  What the script leaves out has the contract's default.  A process_request_fn, which
the legacy containers knew, stands for input_fn and predict_fn together.

Requests that come together are read each alone, predicted in as few passes as give each what it
gets alone, and written each alone.
"""

from __future__ import annotations

import functools
import logging
import time
from itertools import repeat
from typing import Any, Callable, Mapping, NamedTuple, Sequence, Tuple, Union

from mms_handler import codecs, errors, media, models
from mms_handler.errors import BadInput, ScriptError
from mms_handler.script.signature import BoundHook, bind
from mms_handler.worker.reply import Reply, reply

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What a client asks.

    Attributes:
        body: as it came, decompressed.
        content_type: the header as sent; never empty.
        accept: the header as sent, or "".
        by_name: for functions that ask by name: context, gpu_id, request_id, headers.
    """

    body: bytes
    content_type: str
    accept: str
    by_name: Mapping[str, Any]


#: A reply, or what was raised in its place.
Outcome = Union[Reply, BaseException]

#: A model, and what it is called with.
Call = Tuple[Any, Sequence[Any]]

#: Calls a function, for a request or for several together, with its arguments.
Guard = Callable[..., Any]


def unguarded(request: Request | None, function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


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
        accept: str = media.JSON,
        predict_order: str | None = None,
        batch_predict: bool = False,
    ) -> None:
        """Bind ``hooks`` to ``model``.

        Args:
            hooks: the script's functions by name; may be empty.
            model: what model_fn returned.
            device: where the default input_fn puts arrays.
            accept: the content type for ``*/*`` and for a request without Accept.
            predict_order: "model,data" or "data,model", for a predict_fn whose parameters'
                names do not tell.
            batch_predict: the script says that its predict_fn may be given several requests'
                data at once, row after row.
        """
        self.model, self._device, self._accept = model, device, accept
        self.bound: list[BoundHook] = []
        self._predictor: Any = None
        self._together: models.Passes | None = None
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
        if "predict_fn" not in hooks:
            # A default output_fn has no use for NDArrays, a script's own expects them.
            plain = "output_fn" not in hooks
            self._predictor = models.predictor(model, device, plain)
        self._reads = "input_fn" not in hooks
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
        self._wraps = models.is_module(model) and (
            "input_fn" not in hooks or self._predict.model_first
        )
        self._ndarrays = bool(self._predictor) and "output_fn" in hooks and models.is_module(model)
        self._together = self._shared_passes(hooks, batch_predict)

    def _shared_passes(
        self, hooks: Mapping[str, Callable[..., Any]], batch_predict: bool
    ) -> models.Passes | None:
        """How requests that come together are predicted; None: each from its body to its reply."""
        if self._predictor:
            # What an input_fn leaves for its output_fn, in a global say, is not known here.
            apart = {"input_fn", "output_fn"} <= hooks.keys() and not batch_predict
            return None if apart else models.Passes(self._predictor, self._predictor.shared)
        if not batch_predict:
            return None
        asked = [
            name
            for name in (*self._predict.positional, *self._predict.keywords)
            if name in _ITS_OWN
        ]
        if asked:
            log.warning("batch_predict: predict_fn asks for each request's %s", ", ".join(asked))
            return None
        return models.Passes(self._predicted_for_all, False)

    @property
    def shares(self) -> bool:
        """Whether several requests may be predicted in one pass, as far as is known."""
        return self._together is not None and self._together.shared is not False

    def _bind(
        self, hook: str, func: Callable[..., Any], model_first: bool | None = None
    ) -> BoundHook:
        bound = bind(hook, func, model_first=model_first)
        self.bound.append(bound)
        return bound

    def transform(
        self, body: bytes, content_type: str, accept: str, by_name: Mapping[str, Any]
    ) -> Reply:
        """Serve one request; see Request.

        Raises:
            HandlerError: written to be read by the client.
            Exception: anything else is the script's, or a bug.
        """
        given = self._given(Request(body, content_type, accept, by_name))
        return reply(self._answer(given), given["accept"], self._accept)

    def answer(self, requests: Sequence[Request], guard: Guard = unguarded) -> list[Outcome]:
        """Serve requests that came together: to each, in their order, what it would get alone.

        Args:
            requests: as they came.
            guard: calls what is done for a request, told the request; None for several together.
        """
        if len(requests) == 1 or self._together is None or not self.shares:
            return [_outcome(errors.attempt(guard, one, self.transform, *one)) for one in requests]
        given = [self._given(request) for request in requests]
        data = [errors.attempt(guard, *pair) for pair in zip(requests, repeat(self._data), given)]
        ready = [one for one in data if not _failed(one)]
        predicted = iter(self._together(ready, functools.partial(guard, None)))
        predictions = [one if _failed(one) else next(predicted) for one in data]
        return [
            _outcome(one if _failed(one) else errors.attempt(guard, asked, self._written, its, one))
            for asked, its, one in zip(requests, given, predictions)
        ]

    def prepare(
        self,
        sample: Request | None,
        batch_size: int,
        improve: bool,
        int8: models.PackedInt8 | None = None,
        gated: bool = False,
    ) -> None:
        """Answer a sample request, to warm up and to see how others like it are served best.

        Args:
            sample: a request; None: there is none, and nothing is tried.
            batch_size: how many requests may come together.
            improve: whether faster graphs of the model may be tried.
            int8: a graph of the archive, to be tried too.
            gated: requests that take long come one by one, whatever batch_size says.
        """
        if sample is None:
            if self._together and not self._predictor:
                log.warning("batch_predict: without a sample request it cannot be tried")
            return
        with models.recorded_calls(models.blocks(self.model)) as calls:
            (outcome,) = self.answer([sample])
        if isinstance(outcome, BaseException):
            text = f"{type(outcome).__name__}: {outcome}"
            log.warning("the sample request fails, nothing is warmed up: %.200s", text)
            return
        if improve:
            found = errors.attempt(self._improve, sample, calls, int8)
            if _failed(found):  # it answers, so it is served
                log.warning("no faster graph: %s: %s", type(found.exc).__name__, found.exc)
        if gated and self._predictor and self._takes_long(sample):
            return  # should such requests meet all the same, that is when they are tried
        self._prove(sample)
        self._warm_up(sample, batch_size)

    def _improve(
        self, sample: Request, calls: Sequence[Call], int8: models.PackedInt8 | None
    ) -> None:
        data = self._data(self._given(sample)) if self._predictor else None
        for block, arguments in calls:  # a Block's, so that a predictor is one's, too
            straight = self._predictor is not None and self._predictor.is_straight(data)
            models.try_graph(block, arguments, straight)
            if int8:
                models.try_int8(block, arguments, int8)
        if self._predictor and models.is_module(self.model):
            self._predictor.try_unfused(data)
            if int8:
                self._predictor.try_int8(data, int8)

    def calls(self, request: Request) -> Sequence[Call]:
        """The Module or the Blocks that a request runs, each with its arrays, where that is seen.

        Raises:
            Exception: the request fails.
        """
        if self._predictor and models.is_module(self.model):
            return [(self.model, self._data(self._given(request)))]
        with models.recorded_calls(models.blocks(self.model)) as calls:
            (outcome,) = self.answer([request])
        if isinstance(outcome, BaseException):
            raise outcome
        return calls

    def _takes_long(self, sample: Request) -> bool:
        start = time.monotonic()
        self.answer([sample])
        return time.monotonic() - start > HEAVY_S

    def _prove(self, sample: Request) -> None:
        """See whether requests like the sample may share a pass."""
        if self._together is None:
            return
        data = self._data(self._given(sample))
        if self._predictor:
            self._together.may_share(data)
            return
        self._together.shared = self._together.proven(data)
        if not self._together.shared:
            log.warning(
                "batch_predict: the sample and others like it do not get together what they get "
                "alone; requests are predicted one by one"
            )

    def _warm_up(self, sample: Request, batch_size: int) -> None:
        """Answer every number of requests that may come together, as far as time goes."""
        start, count = time.monotonic(), 2
        while count <= batch_size and self._together and time.monotonic() < start + WARM_UP_S:
            self.answer([sample] * count)
            count += 1

    def _given(self, request: Request) -> dict[str, Any]:
        accept = self._accept if request.accept.strip() in ("", "*/*") else request.accept
        return {
            **request.by_name,
            "ctx": self._device,
            "model": self.model,
            "data": request.body,
            "content_type": request.content_type,
            "accept": accept,
        }

    def _transformed(self, given: Mapping[str, Any]) -> Any:
        return self._transform({**given, "data": _for_script(given)})

    def _processed(self, given: Mapping[str, Any]) -> Any:
        """What the legacy containers had for Modules: reading and predicting in one function."""
        prediction = self._process({**given, "data": _for_script(given)})
        return self._output({**given, "prediction": prediction})

    def _stepped(self, given: Mapping[str, Any]) -> Any:
        return self._rendered(given, self._predicted(self._data(given), given))

    def _data(self, given: Mapping[str, Any]) -> Any:
        """The body as input_fn reads it, for ``_predicted``."""
        value = self._read(given if self._reads else {**given, "data": _for_script(given)})
        return self._predictor.arrays(value) if self._predictor else value

    def _predicted(self, data: Any, given: Mapping[str, Any]) -> Any:
        if self._predictor:
            return self._predictor(data)
        if self._wraps and models.is_array(data):
            data = models.to_data(data, self.model)
        return self._predict({**given, "data": data})

    def _predicted_for_all(self, data: Any) -> Any:
        """What a script's predict_fn gives for several requests' data, row after row."""
        return self._predicted(data, {"ctx": self._device, "model": self.model})

    def _rendered(self, given: Mapping[str, Any], prediction: Any) -> Any:
        if self._ndarrays:
            prediction = models.to_ndarrays(prediction)
        return self._output({**given, "prediction": prediction})

    def _written(self, given: Mapping[str, Any], prediction: Any) -> Reply:
        return reply(self._rendered(given, prediction), given["accept"], self._accept)

    def _read(self, given: Mapping[str, Any]) -> Any:
        """Call input_fn.  What a script's own does not understand is the client's fault."""
        try:
            return self._input(given)
        except ValueError as exc:
            raise BadInput(f"input_fn refused the body: {exc}") from exc
        except (LookupError, TypeError) as exc:  # the body's fault, in words for programmers
            raise BadInput(f"input_fn cannot read the body: {type(exc).__name__}") from exc

    def _default_input(self, input_data: bytes, content_type: str) -> Any:
        value = codecs.decode(input_data, content_type)
        if self._predictor:
            return self._predictor.take(value)
        if isinstance(value, dict):
            value = models.single_array(value)
        return models.to_ndarray(value, self.model, self._device)

    def _default_output(self, prediction: Any, accept: str) -> tuple[bytes, str]:
        return codecs.encode(models.to_plain(prediction), accept, self._accept)


#: What differs between requests; a shared pass has none of it.
_ITS_OWN = ("context", "gpu_id", "request_id", "headers")

#: Seconds from which on the gate hands requests over one by one (Batches.java): twice its limit,
#: for the first ones take longer.
HEAVY_S = 6e-3

#: Seconds that warming up for each number of requests may take.
WARM_UP_S = 0.5

#: The functions of a request when neither transform_fn nor process_request_fn takes it.
_STEPS = ("input_fn", "predict_fn", "output_fn")

for _kind in ("image/jpeg", "image/png", "application/x-image"):
    codecs.register(codecs.Codec(_kind, models.decode_image, None))


def _warn_of_ignored(hooks: Mapping[str, Any], taker: str, *others: str) -> None:
    ignored = [name for name in others if name in hooks]
    if ignored:
        log.warning("%s takes the request; ignored: %s", taker, ", ".join(ignored))


def _failed(value: Any) -> bool:
    return isinstance(value, errors.Failed)


def _outcome(value: Any) -> Outcome:
    found: Outcome = value.exc if _failed(value) else value
    return found


def _for_script(given: Mapping[str, Any]) -> bytes | Text:
    """The body as the contract hands it out: text for JSON and CSV, bytes otherwise."""
    body: bytes = given["data"]
    return (
        Text(codecs.text(body, given["content_type"]))
        if media.is_text(given["content_type"])
        else body
    )
