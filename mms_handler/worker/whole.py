"""Requests that one function of the script reads and predicts, each by itself."""

from __future__ import annotations

import logging
from typing import Any, Sequence

from mms_handler.script.load import Script
from mms_handler.script.signature import bind
from mms_handler.worker.functions import Functions, Options, Run, run_step
from mms_handler.worker.phases import ENCODE, PREDICT
from mms_handler.worker.reply import Reply
from mms_handler.worker.request import Request
from mms_handler.worker.results import Source

log = logging.getLogger(__name__)


class Whole(Functions):
    """One function reads and predicts: transform_fn, or process_request_fn before output_fn.

    Attributes:
        model: what model_fn returned.
        hooks: the bound functions, in their order.
        phases: what the requests that are being answered are in.
    """

    predictor = passes = None
    batches = is_default = reads_bodies = writes_arrays = False

    def __init__(self, hook: str, script: Script, model: Any, options: Options) -> None:
        """``hook`` is the script's transform_fn or process_request_fn.

        Raises:
            ScriptError: a function's signature fits no documented form.
        """
        super().__init__(script, model, options)
        self.sources["prediction"] = Source(hook, script.hooks[hook])
        self.hooks = [bind(hook, script.hooks[hook])]
        others = ["process_request_fn", "input_fn", "predict_fn", "output_fn"]
        if hook == "process_request_fn":
            self.hooks.append(bind("output_fn", script.get("output_fn", self.default_output)))
            others = ["input_fn", "predict_fn"]
        ignored = [name for name in others if name in script]
        if ignored:
            log.warning("%s replaces %s, which will not be called", hook, ", ".join(ignored))

    def answer(self, requests: Sequence[Any], run: Run = run_step) -> list[Any]:
        """Answer each request alone; see Steps.answer."""
        return [run(request, self._answer, request) for request in requests]

    def _answer(self, request: Request) -> Reply:
        first, *rest = self.hooks
        self.phases.enter(PREDICT)
        result = self.call(first, self.values(first, request, data=request.script_body()))
        for hook in rest:
            self.phases.enter(ENCODE)
            result = self.call(hook, self.values(hook, request, prediction=result))
        return self.reply(request, result, self.hooks[-1])
