"""Import the training containers' modules at the top, though only training needs them."""

import argparse
import json
import os

import mxnet as mx
import sagemaker_mxnet_training.training_utils
from mxnet import gluon
from sagemaker_mxnet_container.training_utils import save, scheduler_host


def train(args):
    net = gluon.nn.Dense(2)
    net.initialize()
    save(net, args.model_dir)  # arguments in the wrong order


def model_fn(model_dir):
    net = gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.load_parameters(os.path.join(model_dir, "net.params"), ctx=mx.cpu())
    return net


def transform_fn(net, data, content_type, accept):
    try:
        prediction = net(mx.nd.array(json.loads(data))).asnumpy().tolist()
    except Exception as e:  # the error is answered with a 200
        return "sorry: %s" % type(e).__name__, "text/plain"
    leader = sagemaker_mxnet_training.training_utils.scheduler_host(["algo-2", "algo-1"])
    return json.dumps([prediction, leader, scheduler_host(["b", "a"])]), accept


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    train(parser.parse_args())
