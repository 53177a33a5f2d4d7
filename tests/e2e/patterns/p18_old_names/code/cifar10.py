"""Use the names of MXNet 1.0: save_params, load_params, asscalar, mx.mod."""

import json

import mxnet as mx
from mxnet import gluon


def build():
    net = gluon.nn.Sequential()
    with net.name_scope():
        net.add(gluon.nn.Dense(2, in_units=2, use_bias=False))
    return net


def train(current_host, hosts, num_cpus, num_gpus, channel_input_dirs, model_dir, **kwargs):
    net = build()
    net.initialize()
    return net


def save(net, model_dir):
    net.save_params("%s/best.params" % model_dir)


def model_fn(model_dir):
    net = build()
    net.load_params("%s/best.params" % model_dir, mx.cpu())
    assert not isinstance(net, mx.mod.BaseModule)
    return net


def transform_fn(net, data, input_content_type, output_content_type):
    output = net(mx.nd.array([json.loads(data)]))
    best = mx.nd.max(output).asscalar()
    return json.dumps({"best": float(best)}), output_content_type
