"""gluon_patch: a worker has no gradients and no copies, but a script can train in it."""

from __future__ import annotations

import threading

import mxnet as mx
import numpy as np
import pytest

from mms_handler.models import gluon_patch

pytestmark = pytest.mark.filterwarnings("ignore:Cannot decide type")  # SymbolBlock.imports


@pytest.fixture(autouse=True)
def no_training_yet(monkeypatch):
    """As in a new worker."""
    gluon_patch.defer_gradients()
    monkeypatch.setattr(gluon_patch, "_training", threading.Event())


@pytest.fixture
def saved(tmp_path):
    """A Dense of weights 1, 2, 3, exported and saved."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(1, use_bias=False, in_units=3))
    net.initialize()
    net[0].weight.set_data(mx.nd.array([[1, 2, 3]]))
    net.hybridize()
    net(mx.nd.ones((1, 3)))
    net.export(str(tmp_path / "net"))
    net.save_parameters(str(tmp_path / "net.params"))
    return tmp_path


def imported(saved):
    files = (str(saved / "net-symbol.json"), ["data"], str(saved / "net-0000.params"))
    return mx.gluon.SymbolBlock.imports(*files)


def built(saved):
    net = mx.gluon.nn.Dense(1, use_bias=False, in_units=3)
    holder = mx.gluon.nn.HybridSequential()
    holder.add(net)
    holder.load_parameters(str(saved / "net.params"))
    return holder


def legacy(saved):
    """From a file with the parameters' full names, which gluon reads in another way."""
    net = mx.gluon.nn.Dense(1, use_bias=False, in_units=3, prefix="")
    mx.nd.save(str(saved / "legacy.params"), {"weight": mx.nd.array([[1, 2, 3]])})
    net.load_parameters(str(saved / "legacy.params"))
    return net


ways = pytest.mark.parametrize("load", [imported, built, legacy])


def weight(net):
    (parameter,) = net.collect_params().values()
    return parameter


@ways
def test_a_loaded_block_has_no_gradients(saved, load):
    """It predicts the same without: 1 * 4 + 2 * 5 + 3 * 6."""
    net = load(saved)
    assert weight(net)._grad is None
    assert net(mx.nd.array([[4, 5, 6]])).asnumpy().tolist() == [[32]]
    assert weight(net)._grad is None


@ways
def test_training_allocates_them(saved, load):
    """A step of 0.01 against d(y * y) = 2 * y * x, with y = 32."""
    net, x = load(saved), mx.nd.array([[4, 5, 6]])
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    with mx.autograd.record():
        loss = net(x) ** 2
    loss.backward()
    assert weight(net).grad().asnumpy().tolist() == [[256, 320, 384]]
    trainer.step(1)
    assert np.allclose(weight(net).data().asnumpy(), [[1 - 2.56, 2 - 3.20, 3 - 3.84]])


@pytest.mark.parametrize("ask", ["grad", "list_grad", "zero_grad"])
def test_gradients_are_zeros_before_training(saved, ask):
    """Whichever way they are first asked for."""
    net = imported(saved)
    getattr(weight(net), ask)()
    assert weight(net).grad().asnumpy().tolist() == [[0, 0, 0]]


def test_a_parameter_without_gradient_has_none(saved):
    """A script sets grad_req to null."""
    net = imported(saved)
    net.collect_params().setattr("grad_req", "null")
    with mx.autograd.record():
        net(mx.nd.ones((1, 3)))
    assert weight(net)._grad is None
    with pytest.raises(RuntimeError, match="grad_req='null'"):
        weight(net).grad()


def test_gradients_are_added_if_a_script_says_so(saved):
    """Even if it says so before they are allocated."""
    net = imported(saved)
    net.collect_params().setattr("grad_req", "add")
    for _ in range(2):
        with mx.autograd.record():
            loss = net(mx.nd.array([[4, 5, 6]]))
        loss.backward()
    assert weight(net).grad().asnumpy().tolist() == [[8, 10, 12]]


def test_another_type(saved):
    """A gradient has the type that its parameter has when it is allocated."""
    net = imported(saved)
    net.cast("float64")
    with mx.autograd.record():
        loss = net(mx.nd.array([[4, 5, 6]], dtype="float64"))
    loss.backward()
    assert weight(net).grad().dtype == np.float64
    assert weight(net).grad().asnumpy().tolist() == [[4, 5, 6]]


@pytest.mark.parametrize("load_net", [imported, built])
def test_what_was_read_is_not_copied(saved, monkeypatch, load_net):
    """The array of the file becomes the parameter's."""
    read = []
    load = mx.nd.load

    def recording(*args):
        read.append(load(*args))
        return read[-1]

    monkeypatch.setattr("mxnet.gluon.parameter.ndarray.load", recording)
    net = load_net(saved)
    (arrays,) = read
    (array,) = arrays.values()
    assert weight(net).data() is array


def test_the_old_interface_of_training(saved):
    """mxnet.contrib.autograd, which some scripts still use, allocates gradients too."""
    net = imported(saved)
    with mx.contrib.autograd.train_section():
        assert weight(net)._grad is not None


def test_a_scripts_own_arrays_are_copied():
    """A script may write to them, and load them into another Block."""
    array = mx.nd.array([[1, 2, 3]])
    nets = [mx.gluon.nn.Dense(1, use_bias=False, in_units=3, prefix="") for _ in range(2)]
    for net in nets:
        net.collect_params().load_dict({"weight": array})
    array[:] = 7
    nets[0].weight.set_data(mx.nd.zeros((1, 3)))
    assert nets[1].weight.data().asnumpy().tolist() == [[1, 2, 3]]


def test_a_file_that_does_not_fit(saved):
    """Arrays that are set after it are copied again."""
    net = mx.gluon.nn.Dense(1, use_bias=False, in_units=9, prefix="")
    with pytest.raises(AssertionError, match="^Parameter 'weight' is missing"):
        net.load_parameters(str(saved / "net.params"))
    assert not gluon_patch._reading.busy


def test_a_block_that_is_initialized_in_training():
    """Its first call tells its shapes, and allocates its gradients."""
    net = mx.gluon.nn.Dense(1, use_bias=False)
    net.initialize(mx.init.One())
    with mx.autograd.record():
        loss = net(mx.nd.array([[4, 5, 6]]))
    loss.backward()
    assert net.weight.grad().asnumpy().tolist() == [[4, 5, 6]]
