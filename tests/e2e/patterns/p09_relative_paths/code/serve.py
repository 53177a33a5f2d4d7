"""All paths are relative to the working directory, which is the model_dir."""

import json
import os
import sys

import mxnet as mx

sys.path.append("./code/third/party/")

import tokens_of_p09


def model_fn(model_dir):
    net = mx.gluon.SymbolBlock.imports(
        "checkpoint-symbol.json", ["data"], "checkpoint-0000.params", ctx=mx.cpu()
    )
    with open("vocab.json") as f:
        vocab = json.load(f)
    return net, vocab, tokens_of_p09.tokenize


def transform_fn(model, data, input_content_type, output_content_type):
    net, vocab, transform = model
    with open("tmp.txt", "w") as f:
        f.write(json.loads(data))
    with open("tmp.txt") as f:
        ids = [vocab[word] for word in transform(f.read())]
    os.remove("tmp.txt")
    return json.dumps(net(mx.nd.array([ids])).asnumpy().tolist()), output_content_type
