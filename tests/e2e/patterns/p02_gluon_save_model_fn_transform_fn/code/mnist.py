"""Train, save, load and answer with Gluon in one file, as for the legacy containers."""

import json
import logging

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn

logging.basicConfig(level=logging.DEBUG)


def train(current_host, channel_input_dirs, hyperparameters, hosts, num_gpus):
    ctx = [mx.gpu(i) for i in range(num_gpus)] if num_gpus > 0 else mx.cpu()
    net = define_network()
    net.initialize(mx.init.Xavier(), ctx=ctx)
    trainer = gluon.Trainer(net.collect_params(), "sgd", hyperparameters)
    with autograd.record():
        loss = net(mx.nd.ones((1, 2))).sum()
    loss.backward()
    trainer.step(1)
    return net


def define_network():
    net = nn.HybridSequential()
    net.add(nn.Dense(2, in_units=2, use_bias=False))
    net.add(nn.Dense(3, in_units=2, use_bias=False))
    return net


def save(net, model_dir):
    symbol = net(mx.sym.var("data"))
    symbol.save("%s/model.json" % model_dir)
    net.collect_params().save("%s/model.params" % model_dir)


# --- hosting ---


def model_fn(model_dir):
    symbol = mx.sym.load("%s/model.json" % model_dir)
    net = gluon.SymbolBlock(outputs=mx.sym.softmax(symbol), inputs=mx.sym.var("data"))
    net.load_parameters("%s/model.params" % model_dir, ctx=mx.cpu())
    return net


def transform_fn(net, data, input_content_type, output_content_type):
    parsed = json.loads(data)
    output = net(mx.nd.array([parsed]))
    prediction = mx.nd.argmax(output, axis=1)
    return json.dumps(prediction.asnumpy().tolist()[0]), output_content_type
