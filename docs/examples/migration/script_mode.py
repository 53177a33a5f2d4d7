"""A script as the container of MXNet 1.3 wanted it: a program with ``--epochs 20`` and others."""

import argparse
import os

import mxnet as mx
import numpy as np
from sagemaker_mxnet_container.training_utils import save


def train(args):
    """Return a trained Module."""
    table = np.loadtxt(os.path.join(args.train, "pairs.csv"), delimiter=",")
    data = mx.io.NDArrayIter(table[:, 1:], table[:, 0], batch_size=args.batch_size, shuffle=True)
    network = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2)
    module = mx.mod.Module(mx.sym.SoftmaxOutput(network, name="softmax"))
    module.fit(data, num_epoch=args.epochs, optimizer_params={"learning_rate": args.learning_rate})
    return module


def input_fn(request_body, request_content_type):
    """The model does not come first any more."""
    assert request_content_type == "text/csv"
    rows = [line.split(",") for line in request_body.splitlines()]
    return mx.nd.array(np.array(rows, "float32"))


def predict_fn(input_object, model):
    """The data comes first, as in the SDK; it is what ``input_fn`` returned."""
    return model.predict(mx.io.NDArrayIter(input_object, batch_size=1))


def output_fn(prediction, content_type):
    """The body alone."""
    return "\n".join(["first", "second"][int(row.argmax())] for row in prediction.asnumpy())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    arguments = parser.parse_args()
    save(arguments.model_dir, train(arguments))
