"""Classify bars in pictures of 4 by 4: a script-mode file as people wrote them for MNIST.

Channel ``train``: bars.csv, with a line per picture, the label first.  Channel ``test``: bars.npz.
"""

import argparse
import json
import logging
import os

import fair_shares  # from a wheel beside this file
import mxnet as mx
import numpy as np
from sagemaker_mxnet_container.training_utils import save

logging.basicConfig(level=logging.INFO)


def network():
    pictures = mx.sym.var("data")
    hidden = mx.sym.FullyConnected(mx.sym.flatten(pictures), num_hidden=16, name="fc1")
    scores = mx.sym.FullyConnected(mx.sym.relu(hidden), num_hidden=3, name="fc2")
    return mx.sym.SoftmaxOutput(scores, name="softmax")


def load(train_dir, test_dir, hosts, current_host):
    rows = np.loadtxt(os.path.join(train_dir, "bars.csv"), delimiter=",", dtype="float32")
    part = fair_shares.share(rows, hosts, current_host)
    with np.load(os.path.join(test_dir, "bars.npz")) as held_out:
        return part[:, 1:].reshape(-1, 1, 4, 4), part[:, 0], held_out["x"], held_out["y"]


def train(args, hosts, current_host):
    mx.random.seed(5)
    np.random.seed(5)
    x, y, test_x, test_y = load(args.train, args.test, hosts, current_host)
    iterator = mx.io.NDArrayIter(x, y, args.batch_size, shuffle=True)
    held_out = mx.io.NDArrayIter(test_x, test_y, args.batch_size)
    module = mx.mod.Module(network(), context=mx.gpu() if args.num_gpus > 0 else mx.cpu())
    store = mx.kv.create("dist_sync" if len(hosts) > 1 else "local")
    module.fit(
        iterator,
        eval_data=held_out,
        kvstore=store,
        optimizer="sgd",
        optimizer_params={"learning_rate": args.learning_rate},
        initializer=mx.init.Xavier(),
        num_epoch=args.epochs,
    )
    accuracy = dict(module.score(held_out, "acc"))["accuracy"]
    result = {
        "accuracy": accuracy,
        "rows": len(x),
        "workers": store.num_workers,
        "momentum": args.momentum,
        "cwd": os.getcwd(),
    }
    with open(os.path.join(args.output_data_dir, f"result-{current_host}.json"), "w") as file:
        json.dump(result, file)
    return module


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--momentum", type=str, default=None)
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-data-dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    parser.add_argument("--train", type=str, default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--test", type=str, default=os.environ["SM_CHANNEL_TEST"])
    parser.add_argument("--num-gpus", type=int, default=int(os.environ["SM_NUM_GPUS"]))
    parser.add_argument("--current-host", type=str, default=os.environ["SM_CURRENT_HOST"])
    parser.add_argument("--hosts", type=json.loads, default=json.loads(os.environ["SM_HOSTS"]))
    return parser.parse_args()


if __name__ == "__main__":
    args = parse_args()
    trained = train(args, args.hosts, args.current_host)
    save(args.model_dir, trained)
