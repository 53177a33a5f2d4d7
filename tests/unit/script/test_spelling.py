"""spelling: names that are nearly those of the contract, and all those that are not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mms_handler.script.load import HOOKS, Script, _missing, import_script
from mms_handler.script.signature import bind, doubts
from mms_handler.script.spelling import misspelt_hooks

TESTS = Path(__file__).parents[2]


def hints(tmp_path, source, **siblings):
    for name, text in {**siblings, "served": source}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return list(misspelt_hooks(import_script(tmp_path / "served.py"), HOOKS))


def function(name):
    return f"def {name}(*arguments):\n    pass\n"


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("tranform_fn", "transform_fn"),
        ("transform_func", "transform_fn"),
        ("transformFunction", "transform_fn"),
        ("model_func", "model_fn"),
        ("modle_fn", "model_fn"),
        ("models_fn", "model_fn"),
        ("modelfn", "model_fn"),
        ("predict_func", "predict_fn"),
        ("predcit_fn", "predict_fn"),
        ("imput_fn", "input_fn"),
        ("inputs_fn", "input_fn"),
        ("ouput_fn", "output_fn"),
        ("output_function", "output_fn"),
        ("process_requests_fn", "process_request_fn"),
        ("model_warm_up_fn", "model_warmup_fn"),
        ("premodel_fn", "pre_model_fn"),
    ],
)
def test_a_misspelt_hook(tmp_path, name, hook):
    source = f"x = 1\n{function(name)}"
    assert hints(tmp_path, source) == [
        f"{name} is never called (served.py, line 2); did you mean {hook}?"
    ]


#: Functions of real scripts (CONTRACT C), and others that helpers may be called.
HELPERS = """
_input_fn _model_fn my_model_fn default_model_fn load_model_fn model_fn_v2 predict_fn2 predict_batch
predict_model_fn prepare_model_fn transform transformer transform_image_fn transform_input_fn
input_transform_fn batchify_fn collate_fn loss_fn init_fn train_fn eval_fn process_fn preprocess_fn
postprocess_fn preprocess_input_fn postprocess_output_fn predict model load_model get_model save
train
neo_preprocess neo_postprocess metric_fn worker_fn infer_fn forward_fn map_fn data_fn decode_fn
lr_fn
module_fn model_loader_fn get_transform_func predict_all_func
""".split()


def test_helpers_are_no_hooks(tmp_path):
    """Even if nothing calls them: a test or a notebook may."""
    assert hints(tmp_path, "".join(map(function, HELPERS))) == []


def test_the_functions_of_real_scripts(tmp_path):
    """Every kind of script of the contract, with functions of its classes too."""
    names = {
        node.name
        for path in (TESTS / "e2e").rglob("*.py")
        if path.parent.name != "e2e"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(names) > 20
    assert hints(tmp_path, "".join(function(name) for name in names - set(HOOKS))) == []


@pytest.mark.parametrize(
    "use",
    [
        "def other():\n    return model_func()\n",
        "table = {'load': model_func}\n",
        "import sys\nname = 'model_func'\ncall = getattr(sys.modules[__name__], name)\n",
    ],
    ids=["called", "in a table", "by its name"],
)
def test_a_function_that_is_used_is_no_hook(tmp_path, use):
    assert hints(tmp_path, function("model_func") + use) == []


def test_a_try_under_the_main_guard_is_no_use(tmp_path):
    source = function("model_func") + "if __name__ == '__main__':\n    model_func('.')\n"
    assert len(hints(tmp_path, source)) == 1


def test_a_star_import(tmp_path):
    """The function is named where it is defined; one that its own file uses is a helper."""
    hooks = function("model_func") + function("predict_func") + "predict_func()\n"
    assert hints(tmp_path, "from hosting_hooks import *\n", hosting_hooks=hooks) == [
        "model_func is never called (hosting_hooks.py, line 1); did you mean model_fn?"
    ]


def test_functions_of_libraries(tmp_path):
    library = tmp_path / "site"
    library.mkdir()
    (library / "a_library.py").write_text(function("model_func"))
    (tmp_path / "code").mkdir()
    source = f"import sys\nsys.path.append({str(library)!r})\nfrom a_library import model_func\n"
    assert hints(tmp_path / "code", source) == []


def test_hooks_that_another_one_replaces(tmp_path):
    """A transform_fn calls what it likes; a model_fn may still be missing."""
    names = ("transform_fn", "predict_func", "output_func", "model_func")
    (tmp_path / "s.py").write_text("".join(map(function, names)))
    assert Script.load(tmp_path / "s.py").doubts == (
        "model_func is never called (s.py, line 7); did you mean model_fn?",
    )
    names = ("process_request_fn", "predict_func", "output_func", "model_fn")
    (tmp_path / "t.py").write_text("".join(map(function, names)))
    assert Script.load(tmp_path / "t.py").doubts == (
        "output_func is never called (t.py, line 5); did you mean output_fn?",
    )


# --- parameters ------------------------------------------------------------------------------


def hook(name, parameters):
    return bind(name, eval(f"lambda {parameters}: None"))


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("predict_fn", "modle, dta", "predict_fn: modle gets the data; did you mean model?"),
        ("predict_fn", "blok, dta", "predict_fn: blok gets the data; did you mean block?"),
        ("predict_fn", "netwrok, dta", "predict_fn: netwrok gets the data; did you mean network?"),
        ("input_fn", "modul, body, ct", "input_fn: modul gets the data; did you mean model?"),
        (
            "predict_fn",
            "data, model, contex=None",
            "predict_fn: contex keeps its default; did you mean context?",
        ),
        (
            "output_fn",
            "prediction, accept, *, requestid=None",
            "output_fn: requestid keeps its default; did you mean request_id?",
        ),
    ],
)
def test_a_misspelt_parameter(name, parameters, sentence):
    assert list(doubts(hook(name, parameters))) == [sentence]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("predict_fn", "data, modle"),
        ("predict_fn", "nda, net"),
        ("predict_fn", "mode, x"),
        ("input_fn", "content, content_type, content_encoding=None"),
        ("input_fn", "request_body, request_content_type"),
        ("output_fn", "prediction, accept, header=None, content=None"),
        ("transform_fn", "models, data, input_content_type, output_content_type, mode='rgb'"),
        ("transform_fn", "model, request_body, content_type='x', accept_type='x', samples=1000"),
        ("model_fn", "path_to_model_files, prefered_batch_size=1, image_size=(112, 112)"),
        ("predict_fn", "*arguments, **others"),
    ],
)
def test_other_parameters(name, parameters):
    """Names that are unknown, but get what they must, or are the script's own."""
    assert list(doubts(hook(name, parameters))) == []


def test_a_file_that_cannot_be_parsed(tmp_path):
    """It was changed after its import: nobody knows whether it uses the function."""
    path = tmp_path / "changed.py"
    path.write_text(function("transform_func"))
    module = import_script(path)
    assert len(list(misspelt_hooks(module, HOOKS))) == 1
    path.write_text("def (")
    assert list(misspelt_hooks(module, HOOKS)) == []
    path.unlink()
    assert list(misspelt_hooks(module, HOOKS)) == []


@pytest.mark.parametrize(
    ("hooks", "replaced"),
    [
        (["model_fn"], set()),
        (["transform_fn"], {"process_request_fn", "input_fn", "predict_fn", "output_fn"}),
        (["process_request_fn"], {"input_fn", "predict_fn"}),
    ],
)
def test_hooks_that_a_script_may_still_define(hooks, replaced):
    """Those that others do not replace."""
    assert _missing(hooks) == [name for name in HOOKS if name not in {*hooks, *replaced}]
