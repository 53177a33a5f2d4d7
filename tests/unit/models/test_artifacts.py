"""models: the default save format, rows through Modules and Blocks, and what comes out."""

from __future__ import annotations

import io
import json

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from mms_handler import models
from mms_handler.errors import BadInput, ModelError, TooLarge, UnsupportedShape

FILES = ["model-0000.params", "model-shapes.json", "model-symbol.json"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- save ---


def test_save_writes_the_three_files_of_the_default_format(tmp_path, sums):
    """Symbol, parameters with arg: keys, and the shapes, with the batch size of the training."""
    models.save(sums(bound=4), tmp_path / "made")
    assert names(tmp_path / "made") == FILES
    shapes = (tmp_path / "made" / "model-shapes.json").read_text()
    assert shapes == '[{"name": "data", "shape": [4, 2]}]'
    saved = mx.nd.load(str(tmp_path / "made" / "model-0000.params"))
    assert {key: value.asnumpy().tolist() for key, value in saved.items()} == {
        "arg:fc_weight": [[1.0, 2.0]],
        "arg:fc_bias": [10.0],
    }
    symbol = json.loads((tmp_path / "made" / "model-symbol.json").read_text())
    assert [node["name"] for node in symbol["nodes"]] == ["data", "fc_weight", "fc_bias", "fc"]


def test_save_replaces_what_is_there(tmp_path, sums):
    """A second save leaves its own files and nothing of the first."""
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
        models.save(model, tmp_path / "made")
    assert str(caught.value) == (
        "the default save writes a Module, or a HybridBlock that was called; train returned a "
        f"{kind}: define save(model, model_dir) in the script, or save the model in train and "
        "return nothing"
    )
    assert not (tmp_path / "made").exists()


# --- load ---


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
def test_load_lists_what_is_there_instead(tmp_path, sums, missing):
    """Symbol and parameters are needed; what is there without one of them is listed."""
    models.save(sums(), tmp_path)
    (tmp_path / missing).unlink()
    there = ", ".join(name for name in FILES if name != missing)
    with pytest.raises(
        ModelError, match=rf"neither model-symbol.json .* \(it contains: {there}\); "
    ):
        models.load(tmp_path, 1, mx.cpu())


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_load_without_shapes_binds_what_comes(tmp_path, sums, rows):
    """A Module saved without its shapes takes any number of rows, of the right width alone."""
    sums(bound=4).save_checkpoint(str(tmp_path / "net"), 7)
    loaded = models.load(tmp_path, 1, mx.cpu())
    for count in (rows, 2, rows):
        body = np.array([[i, 1] for i in range(count)], np.float32)
        found = models.predict(loaded, models.to_data(body, loaded)).asnumpy()
        assert found.tolist() == [[12.0 + i] for i in range(count)]
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


def test_two_candidates_are_listed(tmp_path, sums):
    """Two epochs of a checkpoint are two models, and which one is wanted is not guessed."""
    sums().save_checkpoint(str(tmp_path / "net"), 1)
    sums().save_checkpoint(str(tmp_path / "net"), 2)
    with pytest.raises(
        ModelError,
        match=r"^the model directory has several models: net-0001.params, net-0002.params",
    ):
        models.load(tmp_path, 1, mx.cpu())


def test_several_inputs_by_name():
    """A body that names the inputs feeds each in any order; a wrong name is the client's."""
    symbol = mx.sym.var("zeta") - mx.sym.var("alpha")
    module = mx.mod.Module(symbol, data_names=["zeta", "alpha"], label_names=None)
    module.bind(data_shapes=[("zeta", (2, 1)), ("alpha", (2, 1))], for_training=False)
    module.init_params()
    body = {"alpha": np.array([[1], [2], [3]]), "zeta": np.array([[10], [20], [30]])}
    data = models.to_data(body, module)
    assert models.predict(module, data).asnumpy().tolist() == [[9.0], [18.0], [27.0]]
    with pytest.raises(BadInput, match="inputs are zeta, alpha, the body's 'alpha', 'beta'"):
        models.to_data({"alpha": body["alpha"], "beta": body["alpha"]}, module)
    with pytest.raises(BadInput, match="different numbers of rows"):
        models.to_data({"alpha": body["alpha"], "zeta": np.array([[1]])}, module)


class Minus(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, left, right):
        return left - right


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_block_of_two_inputs_by_name(hybrid):
    """A Block's arrays are passed to the parameters of its forward by their names."""
    block = Minus()
    if hybrid:
        block.hybridize()
    body = {"right": mx.nd.array([[1]]), "left": mx.nd.array([[5]])}
    assert models.predict(block, body).asnumpy().tolist() == [[4.0]]
    with pytest.raises(UnsupportedShape, match=r"has 2 inputs \(left, right\)"):
        models.predict(block, mx.nd.array([[1]]))


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
        "shapes of another input",
        "shapes that do not fit the parameters",
        "a symbol cut off",
        "an empty symbol",
        "params that are text",
        "empty params",
    ],
)
def test_load_of_files_that_are_something_else(tmp_path, sums, name, text, message):
    """Broken artifacts are a ModelError of one line, found when loading."""
    models.save(sums(), tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError) as caught:
        models.load(tmp_path, 1, mx.cpu())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# --- pictures ---


def _picture(kind, size=(3, 2)):
    """A picture of one colour: red 200, green 100, blue 50."""
    out = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(out, kind)
    return out.getvalue()


def _bomb():
    """A PNG of 18 kB with 12,000 x 12,000 pixels, which are 432 MB of RGB."""
    out = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    return out.getvalue()


def test_a_png_is_planes_of_red_green_and_blue():
    """One picture is one row: (1, 3, height, width), float32 from 0 to 255."""
    found = models.decode_image(_picture("PNG"))
    assert (found.shape, found.dtype) == ((1, 3, 2, 3), np.float32)
    assert [plane.ravel().tolist() for plane in found[0]] == [[200.0] * 6, [100.0] * 6, [50.0] * 6]


def test_a_jpeg_is_too():
    """As far as JPEG keeps colours."""
    found = models.decode_image(_picture("JPEG", (16, 8)))
    assert found.shape == (1, 3, 8, 16)
    assert found[0].mean(axis=(1, 2)).tolist() == pytest.approx([200, 100, 50], abs=3)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b"", ValueError, id="nothing"),
        pytest.param(b"GIF89a", ValueError, id="another format"),
        pytest.param(_picture("PNG")[:40], ValueError, id="cut off"),
        pytest.param(_bomb(), TooLarge, id="a bomb"),
    ],
)
def test_what_is_no_picture(body, error):
    """Refused by its header where that is enough, and never a crash of OpenCV."""
    with pytest.raises(error):
        models.decode_image(body)


# --- rows through a Module ---

B = 4
ROWS = [[0, 0], [1, 0], [0, 1], [2, 3], [5, 5], [-1, 1], [10, 0], [0.5, 0.25], [100, -1]]
SUMS = [[10.0], [11.0], [12.0], [18.0], [25.0], [11.0], [20.0], [11.0], [108.0]]


@pytest.mark.parametrize("kind", [np.array, mx.nd.array], ids=["ndarray", "NDArray"])
@pytest.mark.parametrize("n", range(1, 2 * B + 2))
def test_as_many_rows_out_as_in(sums, n, kind):
    """N rows in, N rows out, each with its own value, for N in 1..2B+1 (B the bound size)."""
    module = sums(bound=B)
    data = models.to_data(kind(ROWS[:n], dtype=np.float32), module)
    assert [batch.data[0].shape for batch in data] == [(B, 2)] * (1 + (n - 1) // B)
    data.reset()
    assert models.predict(module, data).asnumpy().tolist() == SUMS[:n]


@pytest.mark.parametrize("n", range(1, 2 * B + 2))
def test_as_many_rows_out_of_several_outputs(sums, n):
    """The same holds for each of several outputs."""
    module = sums(bound=B, outputs=2)
    data = models.to_data(np.array(ROWS[:n], np.float32), module)
    one, two = models.to_plain(models.predict(module, data))
    assert one.tolist() == SUMS[:n]
    assert two.tolist() == [[2 * y] for (y,) in SUMS[:n]]


def bound_to(*shape):
    module = mx.mod.Module(mx.sym.flatten(mx.sym.var("data")), label_names=None)
    module.bind(data_shapes=[("data", shape)], for_training=False)
    module.init_params()
    return module


@pytest.mark.parametrize(
    ("bound", "shape", "rows"),
    [
        pytest.param((2, 3), (5, 3), 5, id="rows"),
        pytest.param((2, 3), (3,), 1, id="one sample alone"),
        pytest.param((1, 1, 2, 2), (3, 4), 3, id="lines of CSV for images"),
        pytest.param((1, 1, 2, 2), (1, 2, 2), 1, id="one image alone"),
        pytest.param((1, 1, 2, 2), (2, 2), 1, id="one image without its channel"),
        pytest.param((1, 1, 2, 2), (3, 2, 2), 3, id="images without their channel"),
        pytest.param((4, 1), (6,), 6, id="a value a row"),
        pytest.param((4,), (6,), 6, id="samples without a dimension"),
    ],
)
def test_shapes_that_are_rows_of_samples(bound, shape, rows):
    """Rows may come in another shape, as long as no row's values mix with another's."""
    data = models.to_data(np.zeros(shape, np.float32), bound_to(*bound))
    assert data.num_data == rows
    assert data.provide_data[0].shape == bound


@pytest.mark.parametrize(
    ("bound", "shape", "message"),
    [
        pytest.param(
            (2, 3), (2, 2), "the model takes shape (N, 3), the body has (2, 2)", id="short rows"
        ),
        pytest.param(
            (2, 3), (3, 2), "the model takes shape (N, 3), the body has (3, 2)", id="mixed up rows"
        ),
        pytest.param(
            (2, 3), (6,), "the model takes shape (N, 3), the body has (6,)", id="rows run together"
        ),
        pytest.param((2, 3), (), "the model takes shape (N, 3), the body has ()", id="a number"),
        pytest.param(
            (2, 3), (0, 3), "the model takes shape (N, 3), the body has (0, 3)", id="no rows"
        ),
    ],
)
def test_shapes_that_are_not(bound, shape, message):
    """What does not divide into samples is the client's fault: what came, what was wanted."""
    with pytest.raises(BadInput) as caught:
        models.to_data(np.zeros(shape, np.float32), bound_to(*bound))
    assert str(caught.value) == message


def test_a_model_of_two_inputs_needs_a_script():
    """One body cannot feed two inputs; both are named."""
    module = mx.mod.Module(
        mx.sym.var("left") + mx.sym.var("right"),
        data_names=["left", "right"],
        label_names=None,
    )
    module.bind(data_shapes=[("left", (1, 2)), ("right", (1, 2))], for_training=False)
    with pytest.raises(UnsupportedShape) as caught:
        models.to_data(np.zeros((1, 2), np.float32), module)
    assert str(caught.value) == "the model has 2 inputs (left, right), the body has one"


# --- Blocks ---


def test_a_block_is_called_with_the_array(sum_block):
    """block(array), where the Block computes."""
    array = models.to_ndarray(np.array([[1, 1], [2, 0]], np.float32), sum_block, mx.cpu())
    assert models.predict(sum_block, array).asnumpy().tolist() == [[13.0], [12.0]]


def test_a_block_that_takes_another_shape(sum_block):
    """MXNet raises that only when the result is read; it is the client's fault all the same."""
    array = models.to_ndarray(np.zeros((1, 3), np.float32), sum_block, mx.cpu())
    with pytest.raises(BadInput, match=r"^the model does not take this body: ") as caught:
        models.predict(sum_block, array)
    assert "\n" not in str(caught.value)


def test_a_block_without_parameters_computes_on_the_device():
    """Where there are no parameters to tell, the worker's device counts."""
    array = models.to_ndarray(np.zeros((1, 3), np.float32), mx.gluon.nn.Flatten(), mx.cpu(0))
    assert array.context == mx.cpu(0)


@pytest.mark.parametrize(("gpu_id", "text"), [(None, "cpu(0)"), (0, "gpu(0)"), ("1", "gpu(1)")])
def test_the_device_is_the_one_mms_gave(gpu_id, text):
    """A worker computes on its GPU, or on the CPU where it has none."""
    assert str(models.device(gpu_id)) == text


def test_what_is_a_module_and_what_a_block(sums, sum_block):
    """MXNet's two kinds of models are told apart, and from all else."""
    kinds = [(models.is_module(one), models.is_block(one)) for one in (sums(), sum_block, object())]
    assert kinds == [(True, False), (False, True), (False, False)]


def test_to_plain_reaches_every_ndarray():
    """NDArrays in lists of lists, tuples and dicts become ndarrays; other values stay."""
    one = mx.nd.array([1])
    plain = models.to_plain({"a": [[one], (one, "x")], "b": 3})
    assert type(plain["a"][0][0]) is type(plain["a"][1][0]) is np.ndarray
    assert plain == {"a": [[np.array([1])], [np.array([1]), "x"]], "b": 3}
