"""From requests to replies: the script's functions, or the contract's defaults, chosen at load.

    body ─decode─▶ array ─▶ NDArray ─▶ data ─predict─▶ prediction ─encode─▶ body
    └─────── input_fn ────────┘         predict_fn        └──── output_fn ────┘
    └─────────────────────────────── transform_fn ────────────────────────────┘

For a Module, a script's predict_fn gets a DataIter of the Module's own batch size; for a Block,
the NDArray.  A process_request_fn, known from the legacy containers, replaces input_fn and
predict_fn.  The requests of a batch are read one by one, predicted in as few forwards as is
correct, and written one by one; the default output_fn writes several at once.  The default
functions take nothing of a request but its body, its Content-Type and its Accept.  This module
knows the contract, and no server.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, Mapping, Sequence

from mms_handler import codecs, models
from mms_handler.errors import BadInput, Failed, ScriptError
from mms_handler.script.load import Script
from mms_handler.script.signature import BoundHook, bind
from mms_handler.worker.functions import Functions, Options, Run, run_step
from mms_handler.worker.phases import DECODE, ENCODE, PREDICT
from mms_handler.worker.reply import Outputs, Reply
from mms_handler.worker.request import PER_REQUEST, Request
from mms_handler.worker.results import Source, described, unusable
from mms_handler.worker.whole import Whole

log = logging.getLogger(__name__)


def _decode_image(body: bytes, limit_bytes: int) -> Any:
    return models.decode_image(body, limit_bytes)  # by MXNet, which is imported then


for _image_type in ("image/jpeg", "image/png", "application/x-image"):
    codecs.register(codecs.Codec(_image_type, _decode_image, None))


def build(script: Script, model: Any, options: Options) -> Whole | Steps:
    """Choose how a model's requests are answered.

    A transform_fn turns the request into the reply; a process_request_fn turns it into a
    prediction for output_fn.  Without either, input_fn, predict_fn and output_fn run in turn.

    Raises:
        ScriptError: a function's signature fits no documented form, or nothing can run a model
            of this kind.

    Source: the developer guide, "inference code interface"; CONTRACT B7.
    """
    for hook in ("transform_fn", "process_request_fn"):
        if hook in script:
            return Whole(hook, script, model, options)
    return Steps(script, model, options)


def _default_predict(model: Any, data: Any) -> Any:
    """The contract's default predict_fn."""
    return models.predict(model, data)


def _attempt_default(_: Any, function: Callable[..., Any], request: Any) -> Any:
    """Attempt a step of a request that runs no function of the script; see Run.

    For one deadline for several requests: unlike ``attempt``, this lets a deadline's exception out.
    """
    if isinstance(request, Failed):
        return request
    try:
        return function(request)
    except Exception as exc:
        return Failed(exc)


class Steps(Functions):
    """input_fn, predict_fn and output_fn: the script's, or else the contract's defaults.

    Attributes:
        model: what model_fn returned.
        hooks: the bound functions, in their order.
        phases: what the requests that are being answered are in.
        predictor: the default predict_fn; None if the script has its own.
        passes: predicts several requests in as few forwards as is correct; None if each request
            must be answered before the next one is read.
        is_default: whether no function of the script is called for a request.
        reads_bodies: whether the default input_fn is used.
        writes_arrays: whether both the default predict_fn and the default output_fn are used.
    """

    def __init__(self, script: Script, model: Any, options: Options) -> None:
        """Bind the script's functions to ``model``.

        Raises:
            ScriptError: a function's signature fits no documented form, or nothing can run a
                model of this kind.
        """
        super().__init__(script, model, options)
        is_twin = isinstance(model, models.TwinModel)
        is_module = is_twin or models.is_module(model)
        if not (is_module or models.is_block(model)) and "predict_fn" not in script:
            raise ScriptError(
                f"model_fn returned {described(model)}, wanted a Module or a gluon Block; any "
                "other model needs a predict_fn or a transform_fn",
                script.hooks.get("model_fn"),
            )
        for argument, name in (("data", "input_fn"), ("prediction", "predict_fn")):
            self.sources[argument] = Source(name, script.hooks.get(name))
        self.predictor: Any = None
        if is_twin:  # of a Module that has no script's predict_fn
            self.predictor = models.TwinPredictor(model)
        elif "predict_fn" not in script:
            # The default output_fn takes NumPy arrays; a script's output_fn expects NDArrays.
            self.predictor = models.make_predictor(
                model,
                options.device,
                "output_fn" not in script,
                options.saved_shapes,
                "input_fn returned" if "input_fn" in script else "the body has",
            )
        self.reads_bodies = "input_fn" not in script
        self.writes_arrays = bool(self.predictor) and "output_fn" not in script
        self.is_default = self.reads_bodies and self.writes_arrays
        self._input = bind("input_fn", script.get("input_fn", self._default_input))
        order = options.predict_order
        self._predict = bind(
            "predict_fn",
            script.get("predict_fn", _default_predict),
            model_first=order == "model,data" if order else self._input.model_first,
        )
        self._output = bind("output_fn", script.get("output_fn", self.default_output))
        self.hooks: list[BoundHook] = [self._input, self._predict, self._output]
        # The guide's predict_fn(module, data) takes a DataIter, also after a script's input_fn.
        # The SDK's predict_fn(data, model) takes what the script's input_fn returned.
        self._iterates = is_module and (self.reads_bodies or self._predict.model_first)
        self._writes_ndarrays = bool(self.predictor) and "output_fn" in script and is_module
        #: For a script's predict_fn, if the arrays that it gets have the body's shapes.
        self._expected: Any = None
        if not self.predictor:
            self._expected = models.Expected(
                lambda: models.ShapeRules.of_block(model, 1) if models.is_block(model) else None,
                saved=options.saved_shapes,
                exact=False,
            )
        self.passes = self._shared_passes(script)
        #: What the rows of several bodies may take that are read together.
        self.max_stack_bytes = min(options.max_array_bytes // 2, models.STACK_BYTES)

    def _shared_passes(self, script: Script) -> Any:
        if self.predictor:
            # An input_fn may pass something on to its output_fn, in a global for example.
            coupled = "input_fn" in script and "output_fn" in script and not script.batch_predict
            return None if coupled else models.Passes(self.predictor, self.predictor.shared)
        if not script.batch_predict:
            return None
        parameters = (*self._predict.positional, *self._predict.keywords)
        names = [name for name in parameters if name in PER_REQUEST]
        if names:
            log.warning(
                "batch_predict has no effect: predict_fn takes each request's %s", ", ".join(names)
            )
            return None
        return models.Passes(self._predict_together, False)

    @property
    def batches(self) -> bool:
        """Whether several requests may be predicted in one pass, as far as is known yet."""
        return self.passes is not None and self.passes.shared is not False

    def answer(self, requests: Sequence[Any], run: Run = run_step) -> list[Any]:
        """Answer requests that came together, each as if it were alone.

        Args:
            requests: Requests; a Failed is handed on.
            run: calls each step.

        Returns:
            A Reply, Outputs or a Failed for each request, in their order.
        """
        if len(requests) == 1 or not self.batches:
            return [run(request, self._answer, request) for request in requests]
        replies: list[Any] = []
        while len(replies) < len(requests):
            rest = requests[len(replies) :]
            self.phases.enter(DECODE)
            data = self._read_all(rest, run) or self._read_some(rest, run)
            self.phases.enter(PREDICT)
            predictions = self.passes(data, functools.partial(run, None))
            self.phases.enter(ENCODE)
            replies += self._write_all(rest, predictions, run) or self._write_some(
                rest, predictions, run
            )
        return replies

    def _read_all(self, requests: Sequence[Any], run: Run) -> models.Stack | None:
        """Read requests whose bodies are plain and alike; None if not all are, or one is wrong."""
        if not (self.reads_bodies and self.predictor):
            return None
        data = run(None, self._stacked, requests)
        return data if isinstance(data, models.Stack) else None

    def _stacked(self, requests: Sequence[Any]) -> models.Stack | None:
        if any(isinstance(request, Failed) for request in requests):
            return None
        content_type = requests[0].content_type
        if any(request.content_type != content_type for request in requests):
            return None
        bodies = [request.body for request in requests]
        rows = codecs.decode_together(bodies, content_type, self.max_stack_bytes)
        stacked: models.Stack | None = rows and self.predictor.stack(*rows)
        return stacked

    def _read_some(self, requests: Sequence[Any], run: Run) -> list[Any]:
        """Read requests until their data take half of what one request's may: the rest waits."""
        data: list[Any] = []
        if not self.reads_bodies:
            self._read_into(data, requests, run)
            return data
        interrupted = run(None, self._read_into, data, requests, _attempt_default)
        return [*data, interrupted] if isinstance(interrupted, Failed) else data

    def _read_into(self, data: list[Any], requests: Sequence[Any], run: Run) -> None:
        data_bytes = 0
        for request in requests:
            data.append(run(request, self.read, request))
            data_bytes += models.size_bytes(data[-1])
            if data_bytes > self.options.max_array_bytes // 2:
                break

    def _write_all(self, requests: Sequence[Any], predictions: Any, run: Run) -> list[Reply] | None:
        """Write predictions that are stacked; None if they can only be written one by one."""
        accept = requests[0].accept if isinstance(predictions, models.Stack) else None
        if accept is None or not self.writes_arrays:
            return None
        if any(request.accept != accept for request in requests):
            return None
        accept = self.accept(requests[0])
        written = run(None, codecs.encode_rows, *predictions, accept, self.options.accept)
        return (
            None if isinstance(written, Failed) else written and [Reply(*each) for each in written]
        )

    def _write_some(
        self, requests: Sequence[Any], predictions: Sequence[Any] | models.Stack, run: Run
    ) -> list[Any]:
        """Write predictions: together where they are the default functions' and of one type."""
        if isinstance(predictions, models.Stack):
            predictions = predictions.parts()
        replies: dict[int, Any] = {}
        for accept, places in self._by_accept(requests, predictions).items():
            written = run(None, self._write_each, [predictions[place] for place in places], accept)
            if not isinstance(written, Failed):
                replies.update(zip(places, written))
        return [
            replies.get(place) or run(request, self.write, request, prediction)
            for place, (request, prediction) in enumerate(zip(requests, predictions))
        ]

    def _by_accept(
        self, requests: Sequence[Any], predictions: Sequence[Any]
    ) -> dict[str, list[int]]:
        """The places of predictions that can be written together, by what the clients accept."""
        places: dict[str, list[int]] = {}
        for place, prediction in enumerate(predictions if self.writes_arrays else ()):
            if not isinstance(prediction, Failed) and requests[place].tensors is None:
                places.setdefault(self.accept(requests[place]), []).append(place)
        return places

    def _write_each(self, predictions: Sequence[Any], accept: str) -> list[Reply]:
        values = [models.to_plain(prediction) for prediction in predictions]
        return [Reply(*each) for each in codecs.encode_each(values, accept, self.options.accept)]

    def _answer(self, request: Request) -> Reply | Outputs:
        self.phases.enter(DECODE)
        data = self.read(request)
        self.phases.enter(PREDICT)
        prediction = self.predict(request, data)
        self.phases.enter(ENCODE)
        return self.write(request, prediction)

    def written_as(self, accept: str) -> str:
        """The type that the default output_fn writes for an Accept header, as sent.

        Raises:
            NotAcceptable: it allows none that can be written.
        """
        return codecs.negotiate(self.accepted(accept), self.options.accept)

    def predict(self, request: Request, data: Any) -> Any:
        """Call predict_fn with one request's data."""
        if self.predictor:
            return self.predictor(data)
        return self._run_script(data, self.values(self._predict, request))

    def _predict_together(self, data: Any) -> Any:
        """Call the script's predict_fn with the rows of several requests."""
        return self._run_script(data, {"ctx": self.options.device, "model": self.model})

    def _run_script(self, data: Any, values: Mapping[str, Any]) -> Any:
        """Call the script's predict_fn.

        Raises:
            BadInput: it fails because of the body's shape, which the default input_fn keeps.
        """

        def run(arrays: Sequence[Any]) -> Any:
            return self.call(self._predict, {**values, "data": self._model_input(arrays[0])})

        try:
            prediction = run([data])
        except Exception as exc:
            fault = self._expected.fault([data], exc, run) if self.reads_bodies else None
            if fault:
                raise fault from exc
            raise
        self._expected.worked([data])
        return prediction

    def read(self, request: Request) -> Any:
        """Call input_fn with a request's body; returns the data for predict_fn.

        Raises:
            BadInput: a script's input_fn does not understand the body: the client's fault.
            ScriptError: a script's input_fn returns None to the default predict_fn.
        """
        try:
            if self.reads_bodies and request.tensors is not None:
                data = self._taken(request.tensors)
            elif self.reads_bodies:
                data = self._default_input(request.body, request.content_type)
            else:
                values = self.values(self._input, request, data=request.script_body())
                data = self.call(self._input, values)
        except ValueError as exc:
            raise BadInput(f"input_fn refused the body: {exc}") from exc
        except (LookupError, TypeError) as exc:  # from parsing; the text would not help a client
            raise BadInput(f"input_fn cannot read the body: {type(exc).__name__}") from exc
        if self.predictor and data is None:
            raise unusable(self.sources["data"], None)
        return self.predictor.arrays(data) if self.predictor else data

    def _model_input(self, data: Any) -> Any:
        """The data argument of a script's predict_fn: a DataIter where the contract says so."""
        return (
            models.to_data(data, self.model) if self._iterates and models.is_array(data) else data
        )

    def write(self, request: Request, prediction: Any) -> Reply | Outputs:
        """Call output_fn with a prediction; returns the reply that is made of its result."""
        if self.writes_arrays and request.tensors is not None:
            return Outputs(prediction)
        if self.writes_arrays:
            return Reply(*self.default_output(prediction, self.accept(request)))
        return self.reply(request, self.output(request, prediction), self._output)

    def output(self, request: Request, prediction: Any) -> Any:
        """Call output_fn with a prediction; returns its result."""
        if self._writes_ndarrays:
            prediction = models.to_ndarrays(prediction)
        values = self.values(self._output, request, prediction=prediction)
        return self.call(self._output, values)

    def _default_input(self, input_data: bytes, content_type: str) -> Any:
        return self._taken(codecs.decode(input_data, content_type, self.options.max_array_bytes))

    def _taken(self, arrays: Any) -> Any:
        """The default input_fn's result for decoded arrays."""
        if self.predictor:
            return self.predictor.take(arrays)
        if isinstance(arrays, dict):
            arrays = models.single_array(arrays)
        return models.to_ndarray(arrays, self.model, self.options.device)
