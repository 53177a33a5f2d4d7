"""Tiny Modules, random images, and the default predict_fn, for the tests of models."""

from __future__ import annotations

import gc
import os

import mxnet as mx
import numpy as np

from mms_handler import models
from mms_handler.models.graphs.in_place import GraphForward
from mms_handler.models.predictor import ModulePredictor

DATA = mx.sym.var("data")


class Function(mx.gluon.HybridBlock):
    """A Block that computes a function of F and its arrays."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def hybrid_forward(self, F, *arrays):
        return self._function(F, *arrays)


def bind(symbol, *shapes, params=None):
    """A Module bound to the shapes of its inputs.  Its parameters are ones, or ``params``."""
    names = [name for name, _ in shapes]
    module = mx.mod.Module(symbol, data_names=names, label_names=None)
    module.bind(data_shapes=list(shapes), for_training=False)
    sizes, _, states = symbol.infer_shape(**dict(shapes))
    arguments = {
        name: mx.nd.ones(size)
        for name, size in zip(symbol.list_arguments(), sizes)
        if not name.endswith("label")
    }
    variances = {
        name: mx.nd.ones(size) for name, size in zip(symbol.list_auxiliary_states(), states)
    }
    module.init_params(None, {**arguments, **(params or {})}, variances, allow_missing=True)
    return module


def dense(rows=1):
    """A Module of the relu of x0 + x1 + 1."""
    y = mx.sym.relu(mx.sym.FullyConnected(DATA, num_hidden=1, name="fc"))
    return bind(y, ("data", (rows, 2)))


def predicted(module, rows):
    """The default predict_fn of a Module, and what it gives for rows."""
    predictor = ModulePredictor(module)
    data = predictor.arrays(np.array(rows, np.float32))
    return predictor, models.to_plain(predictor(data))


def images(*shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).uniform(-1, 1, shape))


def runs_graph(block):
    """Whether a Block's forward was replaced by its graph."""
    return isinstance(block.forward, GraphForward)


def resident():
    """Megabytes of memory that this process uses."""
    gc.collect()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
