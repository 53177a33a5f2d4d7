"""A handler as Multi Model Server and TorchServe run it: a batch in, a list of replies out."""

import os

import mxnet as mx
from mxnet import gluon


class PairsHandler:
    """The server makes one object, and calls ``initialize`` once and ``handle`` for each batch."""

    def initialize(self, context):
        """Load the model."""
        folder = context.system_properties["model_dir"]
        self.net = gluon.SymbolBlock.imports(
            os.path.join(folder, "model-symbol.json"),
            ["data"],
            os.path.join(folder, "model-0000.params"),
        )

    def preprocess(self, request):
        """A decoded body as an array."""
        return mx.nd.array(request.get("data") or request.get("body"))

    def inference(self, array):
        """The network's scores."""
        return self.net(array)

    def postprocess(self, scores):
        """Scores as something that can be JSON."""
        return {"larger": [["first", "second"][int(row.argmax())] for row in scores.asnumpy()]}

    def handle(self, data, context):
        """One reply for each request."""
        return [self.postprocess(self.inference(self.preprocess(request))) for request in data]
