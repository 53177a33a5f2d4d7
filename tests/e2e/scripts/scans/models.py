"""The network for training and for serving."""

import mxnet as mx
from losses import weighted_entropy


def segmenting():
    neighbours = mx.sym.Convolution(
        mx.sym.var("data"), kernel=(3, 3), pad=(1, 1), num_filter=4, name="neighbours"
    )
    normal = mx.sym.BatchNorm(neighbours, fix_gamma=False, name="normal")
    scores = mx.sym.Convolution(mx.sym.relu(normal), kernel=(1, 1), num_filter=2, name="scores")
    return mx.sym.softmax(scores, axis=1, name="spots")


def training(class_weights, side):
    probabilities = segmenting()
    loss = weighted_entropy(probabilities, mx.sym.var("label"), class_weights, side)
    return mx.sym.Group([loss, mx.sym.BlockGrad(probabilities, name="seen")])
