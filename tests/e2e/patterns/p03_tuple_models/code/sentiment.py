"""The model is a tuple of a network and its vocabulary, from train to transform_fn."""

import json

import mxnet as mx
from mxnet.gluon import nn


def train(current_host, hosts, num_cpus, num_gpus, channel_input_dirs, model_dir, hyperparameters):
    vocab = {"good": 0, "bad": 1, "film": 2}
    net = build(vocab)
    net.initialize()
    return net, vocab


def build(vocab):
    return nn.Dense(2, in_units=len(vocab), use_bias=False)


def save(model, model_dir):
    net, vocab = model
    net.save_parameters("%s/model.params" % model_dir)
    with open("%s/vocab.json" % model_dir, "w") as f:
        json.dump(vocab, f)


def model_fn(model_dir):
    with open("%s/vocab.json" % model_dir) as f:
        vocab = json.load(f)
    net = build(vocab)
    net.load_parameters("%s/model.params" % model_dir, ctx=mx.cpu())
    return net, vocab


def transform_fn(net, data, input_content_type, output_content_type):
    net, vocab = net
    counts = [
        [sentence.split().count(word) for word in sorted(vocab, key=vocab.get)]
        for sentence in json.loads(data)
    ]
    labels = mx.nd.argmax(net(mx.nd.array(counts)), axis=1)
    return json.dumps([int(label) for label in labels.asnumpy()]), output_content_type
