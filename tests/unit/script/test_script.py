"""script.find, load, signature: find the script, import it, bind its hooks by their names."""

from __future__ import annotations

import functools
import importlib
import pickle
import sys

import pytest

from mms_handler.errors import ScriptError
from mms_handler.script.find import choose_script, find_script
from mms_handler.script.load import HOOKS, Script, add_to_path, import_script
from mms_handler.script.signature import bind

# --- finding ---


@pytest.mark.parametrize(
    ("files", "program", "script"),
    [
        pytest.param([], None, None, id="no file, no script"),
        pytest.param(["model.params", "notes.txt"], None, None, id="no Python file, no script"),
        pytest.param(["serve.py"], None, "serve.py", id="the only file"),
        pytest.param(["a.py", "inference.py", "z.py"], None, "inference.py", id="inference.py"),
        pytest.param(["a.py", "inference.py"], "a.py", "a.py", id="the named program"),
        pytest.param(["a.py"], "gone.py", "a.py", id="a named program that does not exist"),
        pytest.param(["inference.py"], "train.py", "inference.py", id="the training's program"),
        pytest.param(["sub/b.py", "a.py"], "sub/b.py", "sub/b.py", id="a program in a folder"),
        pytest.param(["lib/x.py", "lib/y.py", "a.py"], None, "a.py", id="a library in a folder"),
        pytest.param(["lib/x.py"], None, None, id="only a library in a folder"),
        pytest.param(["._a.py", "a.py"], None, "a.py", id="a file of macOS beside the script"),
    ],
)
@pytest.mark.parametrize("folder", ["", "code"], ids=["beside the artifacts", "in code"])
def test_find(tmp_path, folder, files, program, script):
    """The script is the program, else inference.py, else the only .py file."""
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in files:
        (tmp_path / folder / name).parent.mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text("")
    expected = script and tmp_path / folder / script
    assert find_script(tmp_path, program) == expected


def test_the_code_folder_comes_first(tmp_path):
    """If there is a code folder, Python files beside the artifacts are not the script."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "serve.py").write_text("")
    (tmp_path / "inference.py").write_text("")
    assert find_script(tmp_path, None) == tmp_path / "code" / "serve.py"


def test_several_files_without_a_name_are_refused():
    """The script is not guessed."""
    with pytest.raises(ScriptError) as caught:
        choose_script(["b.py", "a.py", "model.params"], None)
    assert str(caught.value) == (
        "several files could be the script: a.py, b.py; "
        "call it inference.py, or name it in SAGEMAKER_PROGRAM"
    )


# --- importing ---


def write(tmp_path, **sources):
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


def test_siblings_and_star_imports_work(tmp_path):
    """The script's folder is on the path, and a hook may come from a star import."""
    write(
        tmp_path,
        serving="from other_hooks import *\nimport sys\nassert __name__ == 'serving'\n",
        other_hooks="def model_fn(model_dir):\n    return model_dir\n",
    )
    hooks = Script.load(tmp_path / "serving.py").hooks
    assert list(hooks) == ["model_fn"]
    assert hooks["model_fn"]("here") == "here"
    assert sys.path[0] == str(tmp_path)


def test_the_main_guard_does_not_run(tmp_path):
    """A script that trains when it is run as a program only defines its functions here."""
    write(tmp_path, guarded="if __name__ == '__main__':\n    raise SystemExit('trained')\n")
    assert Script.load(tmp_path / "guarded.py").hooks == {}


def test_instances_of_a_scripts_classes_can_be_pickled(tmp_path):
    """The script is in sys.modules, where pickle and dataclasses look for it."""
    write(
        tmp_path,
        with_class="from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: int\n",
    )
    point = import_script(tmp_path / "with_class.py").Point(3)
    assert pickle.loads(pickle.dumps(point)) == point


@pytest.mark.parametrize("name", ["json", "wsgiref", "mms_handler", "numpy"])
def test_a_library_keeps_its_name(tmp_path, name):
    """A script that is called like a library gets another name; the library is still imported."""
    write(tmp_path, **{name: "def model_fn(model_dir): pass\n"})
    module = import_script(tmp_path / f"{name}.py")
    assert module.__file__ == str(tmp_path / f"{name}.py")
    assert sys.modules[f"{name}_script"] is module
    assert importlib.import_module(name).__file__ != module.__file__


def test_a_folder_of_the_scripts_name(tmp_path, monkeypatch):
    """One on the path that only could be a package does not take the script's name."""
    (tmp_path / "elsewhere" / "colours_of_flowers").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    write(tmp_path, colours_of_flowers="def model_fn(model_dir): pass\n")
    module = import_script(tmp_path / "colours_of_flowers.py")
    assert (module.__name__, hasattr(module, "model_fn")) == ("colours_of_flowers", True)


def test_a_name_that_is_not_an_identifier(tmp_path):
    """A script may have any file name."""
    write(tmp_path, **{"my-script 2": "def model_fn(model_dir): pass\n"})
    assert list(Script.load(tmp_path / "my-script 2.py").hooks) == ["model_fn"]


def test_a_broken_script_is_not_left_in_sys_modules(tmp_path):
    """After a failed import, sys.modules has no unfinished script."""
    write(tmp_path, half_made="x = 1\nraise SystemExit\n")
    with pytest.raises(SystemExit):
        import_script(tmp_path / "half_made.py")
    assert "half_made" not in sys.modules


def test_a_script_that_is_not_a_py_file(tmp_path):
    """A person may name any file."""
    (tmp_path / "serve.txt").write_text("")
    with pytest.raises(ScriptError, match=r"^serve.txt is not a .py file$"):
        import_script(tmp_path / "serve.txt")


def test_a_hook_that_is_not_callable(tmp_path):
    """A value with a hook's name is refused when the script is loaded."""
    write(tmp_path, no_function="predict_fn = 3\n")
    with pytest.raises(ScriptError, match="predict_fn is a int, not a function"):
        Script.load(tmp_path / "no_function.py")


def test_without_a_script_there_are_no_hooks():
    """A model_dir without a script is served by the defaults."""
    assert Script.load(None).hooks == {}


def test_other_functions_are_not_hooks(tmp_path):
    """Helpers and the training's functions are ignored."""
    write(tmp_path, helpers="def _input_fn(): pass\ndef train(): pass\ndef save(): pass\n")
    assert Script.load(tmp_path / "helpers.py").hooks == {}


# --- binding ---
#
# ``function`` makes a function of a signature, so that each case reads as in a script.


def function(signature):
    scope = {}
    exec(f"def f{signature}: return locals()", scope)
    return scope["f"]


M, D, C, A = "model", "data", "content_type", "accept"

ORDERS = {
    "model_fn": {
        "the documented one": ("(model_dir)", ("model_dir",)),
        "any name for the folder": ("(path_to_model_files)", ("model_dir",)),
        "extras with defaults are never filled": (
            "(model_dir, prefered_batch_size=1, image_size=(112, 112))",
            ("model_dir",),
        ),
        "the context by its name": ("(model_dir, context)", ("model_dir", "context")),
        "the context even with a default": ("(model_dir, context=None)", ("model_dir", "context")),
        "the device by its name": ("(model_dir, ctx)", ("model_dir", "ctx")),
        "no parameter": ("()", ()),
        "a wrapper": ("(*args, **kwargs)", ("model_dir",)),
    },
    "input_fn": {
        "no model name: the first two are body and type": (
            "(request_body, request_content_type)",
            (D, C),
        ),
        "Gluon's in the guide": ("(input_data, content_type)", (D, C)),
        "names that show nothing": ("(foo, bar)", (D, C)),
        "one required": ("(request_body)", (D,)),
        "a type with a default": ("(request_body, content_type='text/csv')", (D, C)),
        "Module's in the guide, the model first": ("(model, input_data, content_type)", (M, D, C)),
        "the model first under another name": ("(net, data, ct)", (M, D, C)),
        "the model first and no type": ("(model, data)", (M, D)),
        "the SDK's of 2018, the model last": (
            "(request_body, request_content_type, model)",
            (D, C, M),
        ),
        "a third required parameter of any name is the model": ("(foo, bar, baz)", (D, C, M)),
        "extras with defaults are never filled": ("(data, content_type, scale=255)", (D, C)),
        "the context by its name": ("(data, content_type, context)", (D, C, "context")),
        "the context first": ("(context, data, content_type)", ("context", D, C)),
        "a wrapper": ("(*args)", (D, C)),
    },
    "predict_fn": {
        "the guide's for Gluon": ("(block, array)", (M, D)),
        "the guide's for Module": ("(module, data)", (M, D)),
        "the SDK's": ("(input_object, model)", (D, M)),
        "the toolkit's tests": ("(nda, net)", (D, M)),
        "only the data's name shows the order, first": ("(x, foo)", (D, M)),
        "only the data's name shows the order, second": ("(foo, x)", (M, D)),
        "only the model's name shows the order, first": ("(net, foo)", (M, D)),
        "only the model's name shows the order, second": ("(foo, net)", (D, M)),
        "the model's name wins over two of data": ("(data, my_model)", (D, M)),
        "no name shows the order: the SDK's": ("(foo, bar)", (D, M)),
        "two names for the data: the SDK's order": ("(data, batch)", (D, M)),
        "capitals do not matter": ("(Model, Data)", (M, D)),
        "a suffix that means the model": ("(face_net, whatever)", (M, D)),
        "extras with defaults are never filled": ("(data, model, top_k=5)", (D, M)),
        "the context by its name": ("(data, model, context)", (D, M, "context")),
        "the context between": ("(data, context, model)", (D, "context", M)),
        "one parameter that is the data": ("(data)", (D,)),
        "one required parameter, and one of the script's own": ("(data, threshold=0.5)", (D,)),
        "one required parameter of any name": ("(foo, threshold=0.5)", (D,)),
        "one required parameter, and a model with a default": ("(data, model=None)", (D, M)),
        "a wrapper": ("(*args, **kwargs)", (D, M)),
    },
    "output_fn": {
        "the guide's": ("(ndarray, accept)", ("prediction", A)),
        "the SDK's": ("(prediction, content_type)", ("prediction", A)),
        "names that show nothing": ("(foo, bar)", ("prediction", A)),
        "one parameter": ("(prediction)", ("prediction",)),
        "extras with defaults are never filled": (
            "(prediction, accept, indent=2)",
            ("prediction", A),
        ),
        "the context by its name": ("(prediction, accept, context)", ("prediction", A, "context")),
        "a wrapper": ("(*args)", ("prediction", A)),
    },
    "transform_fn": {
        "the guide's": ("(model, input_data, content_type, accept)", (M, D, C, A)),
        "the examples'": ("(net, data, input_content_type, output_content_type)", (M, D, C, A)),
        "four names that show nothing": ("(a, b, c, d)", (M, D, C, A)),
        "three required, the first not a model": ("(data, content_type, accept)", (D, C, A)),
        "three names that show nothing": ("(a, b, c)", (D, C, A)),
        "three required, the first a model": ("(model, data, content_type)", (M, D, C)),
        "defaults within the contract are filled": (
            "(model, request_body, content_type='a', accept_type='b')",
            (M, D, C, A),
        ),
        "a fifth with a default is never filled": (
            "(model, request_body, content_type='a', accept_type='b', num_samples=1000)",
            (M, D, C, A),
        ),
        "three required and accept with a default": (
            "(model, request_body, input_content_type, output_content_type='application/json')",
            (M, D, C, A),
        ),
        "only the second name shows the order": ("(foo, data)", (M, D)),
        "only the second name, defaults within the contract": (
            "(foo, data, content_type='a')",
            (M, D, C),
        ),
        "four names that show nothing, two with defaults": ("(a, b, c=1, d=2)", (M, D, C, A)),
        "the data first, and a default": ("(data, ct, accept, n=9)", (D, C, A)),
        "the context by its name": (
            "(model, data, content_type, accept, context)",
            (M, D, C, A, "context"),
        ),
        "a wrapper": ("(*args, **kwargs)", (M, D, C, A)),
    },
    "process_request_fn": {
        "the guide's": ("(model, input_data, content_type)", (M, D, C)),
        "names that show nothing": ("(a, b, c)", (M, D, C)),
        "no type": ("(model, data)", (M, D)),
        "a wrapper": ("(*args)", (M, D, C)),
    },
    "pre_model_fn": {
        "the documented one": ("(model_dir)", ("model_dir",)),
        "no parameter": ("()", ()),
    },
}


@pytest.mark.parametrize(
    ("hook", "signature", "order"),
    [
        pytest.param(hook, signature, order, id=f"{hook}: {case}")
        for hook, cases in ORDERS.items()
        for case, (signature, order) in cases.items()
    ],
)
def test_the_order_of_each_signature(hook, signature, order):
    """The contract's rule for both generations of scripts (CONTRACT B7), case by case."""
    bound = bind(hook, function(signature))
    assert bound.positional == order
    assert bound.keywords == ()


MODEL = (
    "model models mod module mx_model net network block symbol_block predictor classifier "
    "estimator detector clf learner graph booster trained_model loaded_model "
    "resnet_model embedding_net MODEL Net"
)
DATA = (
    "data input inputs input_data input_object x array arr nda ndarray nd_array tensor batch "
    "iter data_iter iterator request payload body request_body image images instances features "
    "sample samples X Payload"
)


@pytest.mark.parametrize("name", MODEL.split())
def test_names_that_mean_the_model(name):
    """Each of these names means the model, at any position."""
    assert bind("predict_fn", function(f"({name}, foo)")).positional == (M, D)
    assert bind("predict_fn", function(f"(foo, {name})")).positional == (D, M)
    assert bind("input_fn", function(f"({name}, foo, bar)")).positional == (M, D, C)
    assert bind("input_fn", function(f"(foo, bar, {name})")).positional == (D, C, M)
    assert bind("transform_fn", function(f"({name}, foo, bar)")).positional == (M, D, C)


@pytest.mark.parametrize("name", DATA.split())
def test_names_that_mean_the_data(name):
    """Each of these names means the data, at any position."""
    assert bind("predict_fn", function(f"({name}, foo)")).positional == (D, M)
    assert bind("predict_fn", function(f"(foo, {name})")).positional == (M, D)


@pytest.mark.parametrize(
    ("signature", "model_first", "order"),
    [
        pytest.param("(foo, bar)", True, (M, D), id="the model is first"),
        pytest.param("(foo, bar)", False, (D, M), id="the model is last"),
        pytest.param("(foo, bar)", None, (D, M), id="no explicit order"),
        pytest.param("(data, model)", True, (D, M), id="names win over an explicit order"),
        pytest.param(
            "(model, data)", False, (M, D), id="names win over an explicit order, the model first"
        ),
    ],
)
def test_an_explicit_order_counts_if_names_show_nothing(signature, model_first, order):
    """A setting, or a legacy input_fn, decides for a predict_fn whose names show nothing."""
    assert bind("predict_fn", function(signature), model_first=model_first).positional == order


@pytest.mark.parametrize(
    ("signature", "first"),
    [
        ("(model, data, content_type)", True),
        ("(context, model, data, content_type)", True),
        ("(data, content_type, model)", False),
        ("(data, content_type)", False),
    ],
)
def test_a_legacy_input_fn_has_the_model_first(signature, first):
    """An input_fn with the model first was written for the guide's order."""
    assert bind("input_fn", function(signature)).model_first is first


@pytest.mark.parametrize(
    ("hook", "signature", "message"),
    [
        pytest.param(
            "model_fn",
            "(model_dir, vocabulary)",
            "model_fn(model_dir, vocabulary): expected (model_dir); there is nothing to pass as "
            "vocabulary; context, ctx, gpu_id, request_id, headers may be added by name",
            id="a second required parameter of model_fn",
        ),
        pytest.param(
            "output_fn",
            "(prediction, accept, *, indent)",
            "output_fn(prediction, accept, *, indent): expected (prediction, accept); there is "
            "nothing to pass as indent; "
            "context, ctx, gpu_id, request_id, headers may be added by name",
            id="a required keyword",
        ),
        pytest.param(
            "transform_fn",
            "(model, data, content_type, accept, extra)",
            "transform_fn(model, data, content_type, accept, extra): expected "
            "(model, input_data, content_type, accept); there is nothing to pass as extra; "
            "context, ctx, gpu_id, request_id, headers may be added by name",
            id="a fifth required parameter of transform_fn",
        ),
        pytest.param(
            "transform_fn",
            "(model, data, content_type, accept, contxt)",
            "transform_fn(model, data, content_type, accept, contxt): expected "
            "(model, input_data, content_type, accept); there is nothing to pass as contxt "
            "(did you mean context?); "
            "context, ctx, gpu_id, request_id, headers may be added by name",
            id="a misspelt parameter",
        ),
        pytest.param(
            "predict_fn",
            "(model)",
            "predict_fn(model): expected (block, array) or (data, model), where at least one "
            "name shows the order; context, ctx, gpu_id, request_id, headers may be added by name",
            id="a predict_fn without data",
        ),
        pytest.param(
            "predict_fn",
            "(data, model, extra)",
            "predict_fn(data, model, extra): expected (block, array) or (data, model), where "
            "at least one name shows the order; there is nothing to pass as extra; "
            "context, ctx, gpu_id, request_id, headers may be added by name",
            id="a third required parameter of predict_fn",
        ),
        pytest.param(
            "input_fn",
            "(model, net, data)",
            "input_fn(model, net, data): expected (input_data, content_type), or with the model "
            "first or last; context, ctx, gpu_id, request_id, headers may be added by name",
            id="two models in input_fn",
        ),
        pytest.param(
            "output_fn",
            "()",
            "output_fn(): expected (prediction, accept); "
            "context, ctx, gpu_id, request_id, headers may be added by name",
            id="an output_fn without parameters",
        ),
    ],
)
def test_a_signature_that_fits_no_form(hook, signature, message):
    """It is refused at load.  The message has the signature and the documented form."""
    with pytest.raises(ScriptError) as caught:
        bind(hook, function(signature))
    assert str(caught.value) == message


FORMS = {
    "pre_model_fn": "(model_dir)",
    "model_fn": "(model_dir)",
    "model_warmup_fn": "(model_dir, model)",
    "process_request_fn": "(model, input_data, content_type)",
    "transform_fn": "(model, input_data, content_type, accept)",
    "input_fn": "(input_data, content_type), or with the model first or last",
    "predict_fn": "(block, array) or (data, model), where at least one name shows the order",
    "output_fn": "(prediction, accept)",
}


@pytest.mark.parametrize("hook", HOOKS)
def test_the_documented_form_of_each_hook(hook):
    """The message for a signature that does not fit has it, and what is asked for in vain."""
    assert set(FORMS) == set(HOOKS)
    with pytest.raises(ScriptError) as caught:
        bind(hook, function("(*, volume)"))
    assert str(caught.value) == (
        f"{hook}(*, volume): expected {FORMS[hook]}; "
        f"{'there is nothing to pass as volume; ' if hook in ('pre_model_fn', 'model_fn') else ''}"
        "context, ctx, gpu_id, request_id, headers may be added by name"
    )


@pytest.mark.parametrize("signature", ["(foo)", "(foo, bar)", "(foo, *, n=1)"])
def test_a_transform_fn_that_could_mean_anything(signature):
    """One or two names that show nothing are not guessed."""
    with pytest.raises(ScriptError, match="^transform_fn.*: expected "):
        bind("transform_fn", function(signature))


def test_a_function_without_a_signature():
    """Some built-in functions have none; a script can wrap them."""
    with pytest.raises(ScriptError, match="^predict_fn: Python cannot list its parameters: "):
        bind("predict_fn", type("Odd", (), {"__signature__": 3, "__call__": print})())


ARGUMENTS = {"model": "m", "data": "d", "content_type": "c", "accept": "a", "context": "ctx!"}


@pytest.mark.parametrize(
    ("signature", "received"),
    [
        pytest.param(
            "(model, input_data, content_type, accept)",
            {"model": "m", "input_data": "d", "content_type": "c", "accept": "a"},
            id="by position",
        ),
        pytest.param(
            "(model, data, ct, accept, n=9, *, context)",
            {"model": "m", "data": "d", "ct": "c", "accept": "a", "n": 9, "context": "ctx!"},
            id="the context after an extra that keeps its default",
        ),
        pytest.param(
            "(model, data, ct, accept, n=9, context=None)",
            {"model": "m", "data": "d", "ct": "c", "accept": "a", "n": 9, "context": "ctx!"},
            id="the context by name, with an extra before it",
        ),
        pytest.param(
            "(model, data, ct, accept, headers)",
            {"model": "m", "data": "d", "ct": "c", "accept": "a", "headers": None},
            id="a missing argument is None",
        ),
        pytest.param(
            "(model, data, ct, accept, **kwargs)",
            {"model": "m", "data": "d", "ct": "c", "accept": "a", "kwargs": {}},
            id="no extra keywords",
        ),
    ],
)
def test_a_bound_hook_gets_its_arguments(signature, received):
    """Each parameter gets the argument that it was bound to, and no other."""
    assert bind("transform_fn", function(signature))(ARGUMENTS) == received


def test_positional_only_parameters():
    """They are bound, too."""

    class Predictor:
        def __call__(self, data, model, /):
            return data, model

    assert bind("predict_fn", Predictor())(ARGUMENTS) == ("d", "m")


def test_methods_partials_and_wrapped_functions():
    """A partial's remaining parameters are bound, and those of the function that is wrapped."""

    def predict(scale, model, data):
        return scale, model, data

    @functools.wraps(function("(block, array)"))
    def wrapper(*args):
        return args

    assert bind("predict_fn", functools.partial(predict, 2))(ARGUMENTS) == (2, "m", "d")
    assert bind("predict_fn", wrapper)(ARGUMENTS) == ("m", "d")


def test_code_with_only_a_package_is_refused(tmp_path):
    """If no file at the top could be the script, the message names the files in folders."""
    (tmp_path / "code" / "inference").mkdir(parents=True)
    (tmp_path / "code" / "inference" / "__init__.py").touch()
    with pytest.raises(ScriptError, match=r"only inference/__init__.py; name the script in"):
        find_script(tmp_path, None)
    assert find_script(tmp_path, "inference/__init__.py") == (
        tmp_path / "code" / "inference" / "__init__.py"
    )


def test_the_first_named_file_that_exists(tmp_path):
    """A SAGEMAKER_PROGRAM for another model does not hide the archive's own program."""
    for name in ("one.py", "two.py"):
        (tmp_path / name).touch()
    assert find_script(tmp_path, "elsewhere.py", "two.py") == tmp_path / "two.py"
    assert find_script(tmp_path, "one.py", "two.py") == tmp_path / "one.py"


def test_folders_beside_the_artifacts(tmp_path):
    """Without code/ they may be anything; a file in one is the script only if it is named."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "plot.py").touch()
    assert find_script(tmp_path, None) is None
    assert find_script(tmp_path, "tools/plot.py") == tmp_path / "tools" / "plot.py"


def test_folders_of_modules(tmp_path):
    """Those that a script brings with it are no scripts; others could be."""
    assert choose_script(["lib/a.py", "wheels/b.py"], None) is None
    with pytest.raises(ScriptError, match="no .py file is at the top of .*, only src/c.py; name"):
        choose_script(["lib/a.py", "src/c.py"], None)


@pytest.mark.parametrize(
    ("source", "order"),
    [
        ("def f(model_dir, model): ...", ("model_dir", "model")),
        ("def f(model): ...", ("model",)),
        ("def f(net, model_dir): ...", ("model", "model_dir")),
        ("def f(folder): ...", ("model_dir",)),
        ("def f(folder, model=None): ...", ("model_dir", "model")),
    ],
)
def test_the_order_of_a_warm_up(source, order):
    """The folder is first, as in sagemaker_inference, unless the first name means the model."""
    namespace = {}
    exec(source, namespace)
    assert bind("model_warmup_fn", namespace["f"]).positional == order


def test_a_warm_up_without_parameters():
    """It has nothing to warm up, so it is refused with the form that it should have."""
    with pytest.raises(ScriptError) as caught:
        bind("model_warmup_fn", lambda: None)
    assert str(caught.value).startswith("model_warmup_fn(): expected (model_dir, model); ")


@pytest.mark.parametrize(
    ("signature", "order"),
    [
        ("(data, content_type, accept, extra=None)", ("data", "content_type", "accept")),
        ("(data, content_type, accept, extra=3)", ("data", "content_type", "accept")),
        ("(model, data, content_type, accept=None)", ("model", "data", "content_type", "accept")),
    ],
)
def test_a_parameter_more_than_a_transform_needs(signature, order):
    """Three without a default, of which the first means the data, are not the model's."""
    assert bind("transform_fn", function(signature)).positional == order


# --- in words ---


@pytest.mark.parametrize(
    ("hook", "signature", "words", "model_first"),
    [
        ("predict_fn", "(model, data)", "model first, as the developer guide documents", True),
        ("predict_fn", "(data, model)", "model last, as the SDK documents", False),
        ("predict_fn", "(data)", "gets data", False),
        ("input_fn", "(model, data, type)", "model first, as the developer guide documents", True),
        ("input_fn", "(data, type, net)", "model last, as the SDK documents", False),
        ("input_fn", "(data, net, type)", "model between, as the SDK documents", False),
        ("input_fn", "(data, content_type)", "gets data, content_type", False),
        ("output_fn", "(prediction, accept)", "gets prediction, accept", False),
        ("model_fn", "()", "gets nothing", False),
        ("predict_fn", "(context, model, data)", "model first, as the developer guide", True),
        (
            "predict_fn",
            "(data, context, model, *, gpu_id, headers=None)",
            "model last, as the SDK documents; context, gpu_id, headers by name",
            False,
        ),
    ],
)
def test_how_a_hook_was_understood(hook, signature, words, model_first):
    """What check prints."""
    bound = bind(hook, eval(f"lambda {signature[1:-1]}: 0"))
    assert str(bound).startswith(f"{hook}{signature}: {words}")
    assert bound.model_first is model_first
    assert not bound.is_default


def test_whose_function_it_is():
    """The contract's default is the package's own, also as a partial; a script's is not."""
    assert bind("input_fn", choose_script).is_default is True
    assert bind("model_fn", functools.partial(import_script)).is_default is True
    assert bind("model_fn", function("(model_dir)")).is_default is False
    assert bind("model_fn", functools.partial(function("(model_dir)"))).is_default is False


def test_folders_come_first_on_the_path(monkeypatch, tmp_path):
    """In their order, before all others, of which none is lost; a new module is found."""
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "new_module_of_two.py").write_text(f"WHERE = {folder.name!r}\n")
    add_to_path(folders)
    assert sys.path == [*map(str, folders), *before]
    assert importlib.import_module("new_module_of_two").WHERE == "one"
    del sys.modules["new_module_of_two"]
