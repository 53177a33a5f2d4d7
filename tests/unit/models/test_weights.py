"""weights_by_name: the parameters of a Module and of a Block, by name."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from tiny_models import DATA, bind, dense

from mms_handler.errors import ModelError
from mms_handler.models.weights import weights_by_name

nn = mx.gluon.nn


def listed(model):
    return {name: array.tolist() for name, array in weights_by_name(model).items()}


def test_the_weights_of_a_module():
    assert listed(dense()) == {"fc_weight": [[1, 1]], "fc_bias": [1]}


def test_states_count_and_labels_do_not():
    norm = mx.sym.BatchNorm(mx.sym.FullyConnected(DATA, num_hidden=1, name="fc"), name="bn")
    module = bind(mx.sym.SoftmaxOutput(norm, name="softmax"), ("data", (2, 2)))
    assert set(weights_by_name(module)) == {
        *("fc_weight", "fc_bias", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"),
    }


def test_a_module_without_a_graph():
    """Such as one of several Modules in turn."""
    chain = mx.mod.SequentialModule()
    chain.add(mx.mod.Module(mx.sym.FullyConnected(DATA, num_hidden=1, name="a"), label_names=None))
    chain.bind([("data", (1, 2))], for_training=False)
    chain.init_params(mx.init.One())
    assert listed(chain)["a_weight"] == [[1, 1]]


def test_the_weights_of_a_block():
    """By their places, as save_parameters has them."""
    net = nn.HybridSequential()
    net.add(nn.Dense(1, in_units=2), nn.BatchNorm(in_channels=1))
    net.initialize(mx.init.One())
    assert listed(net) == {
        "0.weight": [[1, 1]], "0.bias": [0], "1.gamma": [1], "1.beta": [0], "1.running_mean": [0],
        "1.running_var": [1],
    }  # fmt: skip


def test_sparse_weights_become_dense():
    net = nn.Embedding(3, 1, sparse_grad=True)
    net.initialize(mx.init.One())
    net.weight.set_data(mx.nd.array([[0], [5], [0]]).tostype("row_sparse").tostype("default"))
    (array,) = weights_by_name(net).values()
    assert type(array) is np.ndarray
    assert array.tolist() == [[0], [5], [0]]


@pytest.mark.parametrize("initialized", [False, True])
def test_a_parameter_without_values(initialized):
    net = nn.Dense(1)
    if initialized:
        net.initialize()  # its shape is not known yet
    with pytest.raises(ModelError, match="^the parameter weight has no values yet: "):
        weights_by_name(net)


def test_what_has_no_weights():
    with pytest.raises(ModelError, match="^model_fn returns a dict; only a Module or a Block has"):
        weights_by_name({})
