"""The loss, and the metric that training shows."""

import mxnet as mx
import numpy as np


def weighted_entropy(probabilities, label, class_weights, side):
    """Cross entropy per pixel, with a weight for each class: ``[[background, spot]]``."""
    truth = mx.sym.transpose(mx.sym.one_hot(label, depth=2), axes=(0, 3, 1, 2))
    weights = mx.sym.concat(
        *[mx.sym.full((1, 1, side, side), weight) for weight in class_weights[0]], dim=1
    )
    entropy = -mx.sym.broadcast_mul(truth * mx.sym.log(probabilities + 1e-6), weights)
    return mx.sym.MakeLoss(mx.sym.mean(mx.sym.sum(entropy, axis=1), axis=(1, 2)), name="loss")


class Dice(mx.metric.EvalMetric):
    def __init__(self):
        super().__init__("dice")

    def update(self, labels, preds):
        truth = labels[0].asnumpy()
        masks = preds[1].asnumpy().argmax(axis=1)
        self.sum_metric += 2 * np.sum(truth * masks) / max(1, truth.sum() + masks.sum())
        self.num_inst += 1
