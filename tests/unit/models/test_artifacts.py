"""artifacts: the default save's files, and loading what was saved."""

from __future__ import annotations

import contextlib
import gc
import json

import mxnet as mx
import numpy as np
import pytest
from tiny_models import DATA, bind, predicted, resident

from mms_handler import models
from mms_handler.errors import BadInput, ModelError
from mms_handler.models import artifacts

FILES = ["model-0000.params", "model-shapes.json", "model-symbol.json"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_save_writes_the_three_files_of_the_default_format(tmp_path, sums):
    """Symbol, parameters with arg: keys, and the shapes, with the batch size of the training."""
    models.save(sums(bound=4), tmp_path / "model")
    assert names(tmp_path / "model") == FILES
    shapes = (tmp_path / "model" / "model-shapes.json").read_text()
    assert shapes == '[{"name": "data", "shape": [4, 2]}]'
    saved = mx.nd.load(str(tmp_path / "model" / "model-0000.params"))
    assert {key: value.asnumpy().tolist() for key, value in saved.items()} == {
        "arg:fc_weight": [[1.0, 2.0]],
        "arg:fc_bias": [10.0],
    }
    symbol = json.loads((tmp_path / "model" / "model-symbol.json").read_text())
    assert [node["name"] for node in symbol["nodes"]] == ["data", "fc_weight", "fc_bias", "fc"]


def test_save_replaces_what_is_there(tmp_path, sums):
    """A second save replaces all files of the first."""
    for name in FILES:
        (tmp_path / name).write_text("old")
    models.save(sums(bound=3), tmp_path)
    assert names(tmp_path) == FILES
    assert models.load(tmp_path, 0, mx.cpu()).data_shapes[0].shape == (3, 2)


def test_save_keeps_auxiliary_states(tmp_path):
    """A batch norm's moving averages are in the params as aux: keys, and come back."""
    symbol = mx.sym.BatchNorm(mx.sym.var("data"), name="bn", fix_gamma=False)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind(data_shapes=[("data", (2, 1))], for_training=False)
    module.init_params(mx.init.One())
    arg, aux = module.get_params()
    module.set_params(arg, {**aux, "bn_moving_mean": mx.nd.array([7])})
    models.save(module, tmp_path)
    saved = mx.nd.load(str(tmp_path / "model-0000.params"))
    assert saved["aux:bn_moving_mean"].asnumpy().tolist() == [7.0]
    _, aux = models.load(tmp_path, 1, mx.cpu()).get_params()
    assert aux["bn_moving_mean"].asnumpy().tolist() == [7.0]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        pytest.param(mx.gluon.nn.Dense(1), "Dense", id="a Block"),
        pytest.param((1, 2), "tuple", id="a tuple"),
        pytest.param({}, "dict", id="a dict"),
    ],
)
def test_save_is_for_modules(tmp_path, model, kind):
    """Anything else is refused on every host, with what to write instead."""
    with pytest.raises(ModelError) as caught:
        models.save(model, tmp_path / "model")
    assert str(caught.value) == (
        "the default save writes a Module, or a HybridBlock that was called; train returned a "
        f"{kind}: define save(model, model_dir) in the script, or save the model in train and "
        "return nothing"
    )
    assert not (tmp_path / "model").exists()


# --- load -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first_dimension", "shape"),
    [
        pytest.param(1, (1, 2), id="bound to one row"),
        pytest.param(8, (8, 2), id="bound to eight"),
        pytest.param(0, (4, 2), id="as it was saved"),
    ],
)
def test_load_binds_what_save_wrote(tmp_path, sums, first_dimension, shape):
    """The first dimension is the setting's; 0 keeps the training's."""
    models.save(sums(bound=4), tmp_path)
    module = models.load(tmp_path, first_dimension, mx.cpu())
    assert [(desc.name, desc.shape) for desc in module.data_shapes] == [("data", shape)]
    assert not module.for_training
    data = models.to_data(np.array([[1, 1]], np.float32), module)
    assert models.predict(module, data).asnumpy().tolist() == [[13.0]]


def test_load_leaves_a_label_unbound(tmp_path):
    """A symbol with a loss, as trained, is loaded without its label."""
    y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")
    loss = mx.sym.LinearRegressionOutput(y, mx.sym.var("lin_reg_label"), name="lro")
    module = mx.mod.Module(loss, label_names=["lin_reg_label"])
    module.bind([("data", (2, 2))], [("lin_reg_label", (2, 1))])
    module.init_params(mx.init.One())
    models.save(module, tmp_path)
    loaded = models.load(tmp_path, 1, mx.cpu())
    data = models.to_data(np.array([[1, 2], [3, 4]], np.float32), loaded)
    assert models.predict(loaded, data).asnumpy().tolist() == [[3.0], [7.0]]


@pytest.mark.parametrize("missing", ["model-0000.params", "model-symbol.json"])
def test_load_lists_the_files_there_are(tmp_path, sums, missing):
    """Symbol and parameters are needed; without one of them the others are listed."""
    models.save(sums(), tmp_path)
    (tmp_path / missing).unlink()
    files = ", ".join(name for name in FILES if name != missing)
    start, end = "the model directory has neither model-symbol.json", "to load other files"
    with pytest.raises(ModelError, match=rf"^{start} .* \(it contains: {files}\); .* {end}$"):
        models.load(tmp_path, 1, mx.cpu())


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_load_without_shapes_binds_what_comes(tmp_path, sums, rows):
    """A Module saved without its shapes takes any number of rows of the right width."""
    sums(bound=4).save_checkpoint(str(tmp_path / "net"), 7)
    loaded = models.load(tmp_path, 1, mx.cpu())
    for count in (rows, 2, rows):
        body = np.array([[i, 1] for i in range(count)], np.float32)
        prediction = models.predict(loaded, models.to_data(body, loaded)).asnumpy()
        assert prediction.tolist() == [[12.0 + i] for i in range(count)]
    with pytest.raises(BadInput, match=r"does not take this body: .*expected \[1,2\], got \[1,3\]"):
        models.to_data(np.zeros((2, 3), np.float32), loaded)


def test_load_of_an_exported_block(tmp_path, sum_block):
    """HybridBlock.export's two files are a model."""
    sum_block.hybridize()
    sum_block(mx.nd.zeros((1, 2)))
    sum_block.export(str(tmp_path / "exported"), epoch=12)
    loaded = models.load(tmp_path, 1, mx.cpu())
    data = models.to_data(np.array([[1, 2], [3, 4]], np.float32), loaded)
    assert models.predict(loaded, data).asnumpy().tolist() == [[15.0], [21.0]]


def test_files_of_macos_are_no_candidates(tmp_path, sums):
    """It puts ``._net-0001.params`` beside ``net-0001.params`` on disks of other systems."""
    sums().save_checkpoint(str(tmp_path / "net"), 1)
    for name in ("net-0001.params", "net-symbol.json"):
        (tmp_path / f"._{name}").write_bytes(b"\0\5\x16\7")
    loaded = models.load(tmp_path, 1, mx.cpu())
    assert loaded.data_names == ["data"]


def test_two_candidates_are_listed(tmp_path, sums):
    """Two epochs of a checkpoint are two models; load does not guess."""
    sums().save_checkpoint(str(tmp_path / "net"), 1)
    sums().save_checkpoint(str(tmp_path / "net"), 2)
    with pytest.raises(
        ModelError,
        match=r"^the model directory has several models: net-0001.params, net-0002.params",
    ):
        models.load(tmp_path, 1, mx.cpu())


def test_load_of_an_empty_folder(tmp_path):
    """A model_dir without artifacts and without model_fn cannot be served."""
    with pytest.raises(ModelError) as caught:
        models.load(tmp_path, 1, mx.cpu())
    assert str(caught.value) == (
        "the model directory has neither model-symbol.json and model-0000.params nor another "
        "PREFIX-symbol.json and PREFIX-EPOCH.params (it contains: nothing); define model_fn in the "
        "script to load other files"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model-shapes.json", "", "model-shapes.json is not a list of names and shapes"),
        ("model-shapes.json", "3", "model-shapes.json is not a list of names and shapes"),
        ("model-shapes.json", "{}", "model-shapes.json is not a list of names and shapes"),
        ("model-shapes.json", "[]", "model-shapes.json is not a list of names and shapes"),
        ("model-shapes.json", '[{"name": "x"}]', "model-shapes.json is not a list of names"),
        (
            "model-shapes.json",
            '[{"name": "data", "shape": [1, 0]}]',
            "model-shapes.json is not a list of names",
        ),
        (
            "model-shapes.json",
            '[{"name": 5, "shape": [1, 2]}]',
            "model-shapes.json is not a list of names",
        ),
        (
            "model-shapes.json",
            '[{"name": "other", "shape": [1, 2]}]',
            "model-shapes.json names an input other, which the symbol does not have",
        ),
        (
            "model-shapes.json",
            '[{"name": "data", "shape": [1, 3]}]',
            "the artifacts do not make a Module: ",
        ),
        ("model-symbol.json", "{", "the artifacts do not make a Module: "),
        ("model-symbol.json", "", "the artifacts do not make a Module: "),
        ("model-0000.params", "weights", "the artifacts do not make a Module: "),
        ("model-0000.params", "", "the artifacts do not make a Module: "),
    ],
    ids=[
        "empty shapes",
        "shapes that are a number",
        "shapes that are an object",
        "no shapes at all",
        "shapes without a shape",
        "a shape without values",
        "a name that is a number",
        "shapes of another input",
        "shapes that do not fit the parameters",
        "a symbol cut off",
        "an empty symbol",
        "params that are text",
        "empty params",
    ],
)
def test_load_of_files_that_are_something_else(tmp_path, sums, name, text, message):
    """Loading broken artifacts is a ModelError of one line."""
    models.save(sums(), tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError) as caught:
        models.load(tmp_path, 1, mx.cpu())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_parameter_without_values(tmp_path, sums):
    """MXNet would compute with zeros; a label needs none."""
    models.save(sums(), tmp_path)
    values = {"arg:fc_weight": mx.nd.array([[1, 2]])}
    mx.nd.save(str(tmp_path / "model-0000.params"), values)
    with pytest.raises(ModelError, match="^model-0000.params has no values for fc_bias$"):
        models.load(tmp_path, 1, mx.cpu())


def test_a_symbol_without_an_input(tmp_path):
    """Saved without shapes, its inputs are what has no values; here all have."""
    symbol = mx.sym.broadcast_add(mx.sym.var("a"), mx.sym.var("b_label"))
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, symbol, {"a": mx.nd.ones((1,))}, {})
    with pytest.raises(ModelError, match="^the symbol has no input: all its arguments are param"):
        models.load(tmp_path, 1, mx.cpu())


def test_large_weights_are_loaded_once(tmp_path):
    """Module.bind would hold them three times: from the file, its own, the executor's."""
    hidden = mx.sym.FullyConnected(DATA, num_hidden=4096, name="fc", no_bias=True)
    models.save(bind(hidden, ("data", (1, 4096))), tmp_path)
    gc.collect()
    megabytes = resident()
    module = models.load(tmp_path, 1, mx.cpu())
    assert resident() - megabytes < 1.3 * 64
    arguments, _ = module.get_params()
    assert arguments["fc_weight"].asnumpy().all()


@pytest.mark.parametrize("fits", [True, False])
def test_a_module_that_is_too_large_to_fuse(tmp_path, sums, monkeypatch, fits):
    """Is bound without MXNet's fusion, which copies its weights; any other one is fused."""
    models.save(sums(), tmp_path)
    used = []

    @contextlib.contextmanager
    def unfused():
        used.append("unfused")
        yield

    monkeypatch.setattr(artifacts, "may_fuse", lambda graph, shapes: fits)
    monkeypatch.setattr(artifacts, "unfused", unfused)
    models.load(tmp_path, 1, mx.cpu())
    assert used == ([] if fits else ["unfused"])


def test_a_loaded_module_is_a_module_in_every_way(tmp_path, sums):
    """Scripts can run, rebind and reshape it, and set its parameters."""
    models.save(sums(bound=4), tmp_path)
    module = models.load(tmp_path, 1, mx.cpu())
    module.forward(mx.io.DataBatch([mx.nd.array([[1, 2]])]), is_train=False)
    assert module.get_outputs()[0].asnumpy().tolist() == [[15.0]]
    module.reshape([("data", (2, 2))])
    module.forward(mx.io.DataBatch([mx.nd.array([[1, 2], [0, 0]])]), is_train=False)
    assert module.get_outputs()[0].asnumpy().tolist() == [[15.0], [10.0]]
    arguments, states = module.get_params()
    module.set_params({**arguments, "fc_bias": mx.nd.array([20])}, states)
    module.forward(mx.io.DataBatch([mx.nd.array([[1, 2], [0, 0]])]), is_train=False)
    assert module.get_outputs()[0].asnumpy().tolist() == [[25.0], [20.0]]
    module.bind([("data", (3, 2))], for_training=False, force_rebind=True)
    assert module.predict(mx.nd.zeros((3, 2))).asnumpy().tolist() == [[20.0]] * 3


def test_parameters_of_another_type_are_cast(tmp_path, sums):
    """To the type the symbol computes in, as set_params would."""
    models.save(sums(), tmp_path)
    saved = mx.nd.load(str(tmp_path / "model-0000.params"))
    stored = {name: array.astype("float64") for name, array in saved.items()}
    mx.nd.save(str(tmp_path / "model-0000.params"), stored)
    module = models.load(tmp_path, 1, mx.cpu())
    assert module.predict(mx.nd.array([[1, 2]])).asnumpy().tolist() == [[15.0]]


def test_an_input_of_another_type(tmp_path):
    """A symbol that sets the type of its input is bound to that."""
    doubles = mx.sym.FullyConnected(mx.sym.var("data", dtype="float64"), num_hidden=1, name="fc")
    values = {"fc_weight": mx.nd.array([[1, 2]]), "fc_bias": mx.nd.array([10])}
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, doubles, values, {})
    (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [1, 2]}]')
    _, prediction = predicted(models.load(tmp_path, 1, mx.cpu()), [[1, 1], [2, 3]])
    assert (prediction.dtype, prediction.tolist()) == (np.float64, [[13.0], [18.0]])


def test_rows_fixed_in_a_saved_symbol(tmp_path):
    """They are loaded as saved if the setting says so."""
    fixed = mx.sym.reshape(mx.sym.reshape(DATA, shape=(8,)), shape=(4, 2)) * 2
    mx.model.save_checkpoint(str(tmp_path / "model"), 0, fixed, {}, {})
    (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [4, 2]}]')
    _, prediction = predicted(models.load(tmp_path, 0, mx.cpu()), [[i, i] for i in range(6)])
    assert prediction.tolist() == [[2.0 * i, 2.0 * i] for i in range(6)]
