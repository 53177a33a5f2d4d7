"""training.mode: whether a file's train() is called or the file is run."""

from __future__ import annotations

import sys

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import mode


def case(source, expected, words, id):
    return pytest.param(source, expected, words, id=id)


GUARD = """
if __name__ == "__main__":
    args = parse()
    train(args)
"""

#: Source, mode, words of the reason.
RULES = [
    # 3: no train
    case("", "script", "no train() at module level", "an empty file"),
    case("print('trains')", "script", "no train() at module level", "no train"),
    case("class Net:\n    def train(self): pass", "script", "no train", "train is a method"),
    case("def main():\n    def train(): pass", "script", "no train", "train is an inner function"),
    case("import train\ntrain.run()", "script", "no train", "train is a module"),
    case("import learner as train", "script", "no train", "train is a module's other name"),
    case("train, test = split()", "script", "no train", "train is data, unpacked"),
    case("for train, test in folds(): fit(train)", "script", "no train", "train is a fold"),
    case("x = [train for train in folds()]", "script", "no train", "train is in a comprehension"),
    case("train = [1, 2]", "script", "no train", "train is a list"),
    case("if __name__ == '__main__':\n    def train(): pass", "script", "no train", "in the guard"),
    case("from nowhere_at_all import *", "script", "no train", "an unknown star import"),
    case("from os import *", "script", "no train", "a star import without train"),
    # the changed rule, and 5: no guard, no call
    case("def train(hosts): pass", "legacy", "nor has a main guard", "the contract's names"),
    case("def train(**kwargs): pass", "legacy", "nor has a main guard", "kwargs"),
    case("def train(): pass", "legacy", "nor has a main guard", "no names"),
    case("def train(args): pass", "legacy", "neither calls it", "a required one beyond the nine"),
    case("def train(*, data, hosts): pass", "legacy", "neither calls it", "and keyword-only"),
    case("def main():\n    train(1)\ndef train(x): pass", "legacy", "neither calls it",
         "main uncalled"),
    case("try:\n    def train(): pass\nfinally: pass", "legacy", "defines train", "within try"),
    case("if 1:\n    pass\nelse:\n    def train(): pass", "legacy", "defines train", "within else"),
    case("try:\n    x()\nexcept E:\n    def train(): pass", "legacy", "defines", "within except"),
    case("def fit(x): pass\ntrain = fit", "legacy", "defines train", "assigned"),
    case("train = functools.partial(fit, 1)", "legacy", "defines train", "assigned, from a call"),
    case("train: object = lambda **k: None", "legacy", "defines train", "assigned, annotated"),
    case("train: object", "script", "no train", "only annotated"),
    case("from learning import fit as train", "legacy", "defines train", "imported"),
    case("def train(x): pass\ntrain = timed(train)", "legacy", "neither calls it", "wrapped"),
    case("# SM_HOSTS\ndef train(hosts):\n    'SM_HOSTS'", "legacy", "nor has a main guard",
         "SM_ in a comment"),
    case("def train(hosts): os.environ['SM_HOSTS']", "legacy", "nor has a main guard",
         "SM_, no guard"),
    # the file trains by itself, without a guard
    case("def train(args): pass\ntrain(parse())", "script", "requires args", "a call at the top"),
    case("def train(x): pass\ndef main(): train(1)\nmain()", "script", "requires x",
         "through main"),
    case("def train(x): pass\nclass M:\n  def go(s): train(1)\nM().go()", "script", "requires x",
         "through a class"),
    case("def train(x): pass\nwith a:\n  for i in b: sys.exit(train(i))", "script", "calls train",
         "a nested call"),
    case("def train(hosts=()): pass\ntrain()", "legacy", "takes hosts", "with the nine: rule 5"),
    case("def train(hosts): pass\ntrain(os.environ['SM_HOSTS'])", "script", "reads SM_HOSTS",
         "with SM_"),
    case("def train(): pass\ntrain()", "script", "takes none of", "with nothing"),
    case("train = load(a.train)\nfit(train, env['SM_MODEL_DIR'])", "script",
         "may not be a function",
         "data called train"),
    # 4: required beyond the nine
    case("def train(args): pass" + GUARD, "script", "requires args", "train(args)"),
    case("def train(data, hosts): pass" + GUARD, "script", "requires data,", "data and hosts"),
    case("def train(hosts, *, lr): pass" + GUARD, "script", "requires lr", "keyword-only"),
    case("def train(hosts, lr=1, *, n=2): pass" + GUARD, "legacy", "hosts", "with defaults"),
    case("async def train(lr): pass" + GUARD, "script", "requires lr", "async"),
    # 6: a guard
    case("def train(hosts, **kw): pass" + GUARD, "legacy", "hosts, **kw", "guard, the nine"),
    case("def train(**kw): pass" + GUARD, "legacy", "**kw", "guard, kwargs"),
    case("def train(): pass" + GUARD, "script", "takes none of", "guard, nothing"),
    case("def train(lr=1): pass" + GUARD, "script", "takes none of", "guard, a default"),
    case("def train(hosts): pass\nx = os.environ['SM_HOSTS']" + GUARD, "script", "SM_HOSTS", "SM_"),
    case("def train(hosts): pass\nx = 'SM_CHECKPOINT_DIR', 'SM_SEED'" + GUARD, "legacy", "hosts",
         "what legacy scripts are told too"),
    case("def train(hosts): pass\nx = f'SM_CHANNEL_{name}'" + GUARD, "script", "SM_CHANNEL_",
         "SM_ in an f-string"),
    case("'SM_HOSTS'\n# SM_HOSTS\ndef train(hosts): 'SM_X'" + GUARD, "legacy", "hosts",
         "SM_ in docstrings"),
    case("def train(hosts): pass\nx = 'SM_', 'sm_x', 'ASM_X', b'SM_X'" + GUARD, "legacy", "hosts",
         "not SM_ and a letter"),
    case("from sagemaker_mxnet_container.training_utils import save\ndef train(hosts): pass"
         + GUARD, "script", "sagemaker_mxnet_container", "the toolkit"),
    case("def train(hosts):\n    import sagemaker_containers as s" + GUARD, "script",
         "sagemaker_containers", "a toolkit, within"),
    case("import sagemaker_trainings\ndef train(hosts): pass" + GUARD, "legacy", "hosts",
         "another library"),
    case("from fitting import fit as train" + GUARD, "script", "are unknown", "guard, imported"),
    case("if '__main__' == __name__ and x: pass\ndef train(): pass", "script", "guard", "reversed"),
    case("try:\n    if __name__ == '__main__': pass\nfinally: pass\ndef train(): pass", "script",
         "guard", "guard within try"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected", "words"), RULES)
def test_rules(script, source, expected, words):
    """Each rule of CONTRACT A8, and the one that is changed here."""
    choice = mode.choose_mode(script(source), {})
    assert (choice.name, choice.legacy) == (expected, expected == "legacy"), choice.reason
    assert words in choice.reason
    assert "\n" not in choice.reason


#: Imitations of the scripts of CONTRACT C, by number.
SCRIPTS = [
    case(
        """
        import mxnet as mx
        def train(current_host, channel_input_dirs, hyperparameters, hosts, num_cpus, num_gpus):
            return mx.mod.Module(mx.sym.var("data"))
        """,
        "legacy", "nor has a main guard", "C1: Module and defaults"),
    case(
        """
        def train(current_host, hosts, num_cpus, channel_input_dirs, model_dir, **kwargs): ...
        def save(net, model_dir): ...
        def model_fn(model_dir): ...
        def transform_fn(net, data, input_content_type, output_content_type): ...
        """,
        "legacy", "nor has a main guard", "C3: Gluon with hooks"),
    case(
        """
        import os
        os.system("pip install pandas")
        import pandas
        def train(channel_input_dirs, hyperparameters, hosts, num_gpus, **kwargs): ...
        """,
        "legacy", "nor has a main guard", "C5: installs at import"),
    case(
        "def train(data, hyperparameters={'lr': 1}, num_cpus=0, num_gpus=1, **kwargs): ...",
        "legacy", "neither calls it", "C6: trained at home, only hosted"),
    case(
        """
        import argparse
        def train(hyperparameters, channel_input_dirs, num_gpus, **kwargs): ...
        if __name__ == "__main__":
            parser = argparse.ArgumentParser()
            train(vars(parser.parse_args()), {}, 0)
        """,
        "legacy", "**kwargs", "C10: legacy with a guard for runs at home"),
    case(
        """
        import argparse
        def parse_args(): return argparse.ArgumentParser().parse_args()
        def train(channel_input_dirs, hyperparameters, hosts): ...
        """,
        "legacy", "nor has a main guard", "C11: parse_args, no guard"),
    case(
        """
        # if __name__ == '__main__':
        #     train(1)
        def train(hyperparameters, hosts, **kwargs): ...
        """,
        "legacy", "nor has a main guard", "C12: a guard in comments"),
    case(
        """
        import argparse, os
        def train(batch_size, epochs, hosts, current_host, model_dir): ...
        if __name__ == '__main__':
            p = argparse.ArgumentParser()
            p.add_argument('--model-dir', default=os.environ['SM_MODEL_DIR'])
            train(**vars(p.parse_args()))
        """,
        "script", "requires batch_size, epochs", "C14: script mode with names of the contract"),
    case(
        "def train(args): ...\ndef save(net, model_dir): ...\n" + GUARD,
        "script", "requires args", "C15: train(args)"),
    case(
        """
        from sagemaker_mxnet_container.training_utils import scheduler_host
        def train(hosts, model_dir): ...
        if __name__ == '__main__':
            train([], '')
        def model_fn(model_dir): ...
        """,
        "script", "sagemaker_mxnet_container", "C17: training_utils, hooks behind the guard"),
    case(
        """
        import json, os
        def train(num_cpus, num_gpus, channel_input_dirs): ...
        if __name__ == '__main__':
            env = json.loads(os.environ['SM_TRAINING_ENV'])
            train(env['num_cpus'], env['num_gpus'], env['channel_input_dirs'])
        """,
        "script", "SM_TRAINING_ENV", "C21: contract names alone, and script mode"),
    case(
        """
        def train(hyperparameters, hosts, num_gpus, **kwargs): pass
        def predict_fn(input_object, model): ...
        if __name__ == '__main__':
            print(predict_fn(1, 2))
        """,
        "legacy", "**kwargs", "C27: a stub, and a guard that tries hosting"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected", "words"), SCRIPTS)
def test_scripts(script, source, expected, words):
    """Scripts as people wrote them are run in the mode that they were written for."""
    choice = mode.choose_mode(script(source), {"sagemaker_program": "entry.py", "epochs": 3})
    assert choice.name == expected, choice.reason
    assert words in choice.reason


@pytest.mark.parametrize("name", ["sagemaker_parameter_server_enabled", "sagemaker_mpi_enabled"])
@pytest.mark.parametrize("value", [True, False])
def test_hyperparameters_of_script_mode(script, name, value):
    """A hyperparameter that the SDK sends only for MXNet 1.3 and newer means script mode."""
    choice = mode.choose_mode(script("def train(hosts): pass"), {name: value})
    assert not choice.legacy
    assert name in choice.reason


@pytest.mark.parametrize("setting", ["legacy", "script"])
def test_the_setting_wins(script, setting):
    """It decides before anything is read."""
    broken = script("def (")
    choice = mode.choose_mode(broken, {"sagemaker_mpi_enabled": True}, setting)
    assert choice == (setting == "legacy", "set by --mode")
    assert choice.name == setting


def test_an_unknown_mode_is_refused(script):
    with pytest.raises(TrainingError, match="unknown mode 'both': use legacy or script"):
        mode.choose_mode(script(""), {}, "both")


@pytest.mark.parametrize("name", ["train.sh", "train", "package"])
def test_what_is_not_python_is_run(tmp_path, name):
    """A8, 2: a file with another extension, or none; it need not exist."""
    assert mode.choose_mode(tmp_path / name, {}) == (False, f"{name} is not a .py file")


def test_a_module_of_a_package_is_run(tmp_path):
    """If setup.py and __init__.py make a package of its folders; setup.py alone does not."""
    package = tmp_path / "trainer" / "inner"
    package.mkdir(parents=True)
    path = package / "task.py"
    path.write_text("def train(hosts): pass")
    (tmp_path / "setup.py").touch()
    assert mode.choose_mode(path, {}).legacy
    (package / "__init__.py").touch()
    assert mode.choose_mode(path, {}).legacy
    (package.parent / "__init__.py").touch()
    assert mode.choose_mode(path, {}) == (False, "task.py belongs to a package with a setup.py")


# --- train from another file ---


@pytest.mark.parametrize(
    ("source", "beside", "expected", "words"),
    [
        pytest.param(
            "from a import *", {"a": "def train(x): pass"}, "legacy", "nor has a main guard",
            id="a star",
        ),
        pytest.param(
            "from a import *" + GUARD,
            {"a": "def train(args): pass"},
            "script",
            "requires args",
            id="a star, and a guard",
        ),
        pytest.param(
            "from a import *" + GUARD,
            {"a": "from b import *", "b": "def train(hosts): pass"},
            "legacy",
            "takes hosts",
            id="a star's star",
        ),
        pytest.param(
            "from a import *", {"a": "from b import *", "b": "from a import *"}, "script", "no tr",
            id="a circle",
        ),
        pytest.param(
            "from a import train" + GUARD, {"a": "def train(lr): pass"}, "script", "requires lr",
            id="by name",
        ),
        pytest.param(
            "from p.q import train" + GUARD, {"p__in__q": "def train(hosts): pass"}, "legacy",
            "takes hosts", id="by name, two folders down",
        ),
        pytest.param(
            "from p import train", {"p__in__train": "x = 1", "p__in____init__": ""}, "script",
            "no train", id="a module of a package",
        ),
        pytest.param(
            "from p import train", {"p__in__train": "x = 1"}, "script", "no train",
            id="a module of a folder",
        ),
        pytest.param(
            "from p import train" + GUARD,
            {"p__in____init__": "from .train import train", "p__in__train": "def train(lr): pass"},
            "script", "requires lr", id="a package that imports it from its module",
        ),
        pytest.param(
            "from a import *" + GUARD, {"lib__in__a": "def train(lr): pass"}, "script",
            "requires lr", id="in lib",
        ),
    ],
)  # fmt: skip
def test_train_from_another_file(script, source, beside, expected, words):
    """An imported train is looked up without importing anything."""
    choice = mode.choose_mode(script(source, **beside), {})
    assert choice.name == expected, choice.reason
    assert words in choice.reason


def test_train_of_an_installed_package(script, tmp_path, monkeypatch):
    """Installed packages are looked up too, without importing them."""
    (tmp_path / "site" / "trainers" / "mx").mkdir(parents=True)
    (tmp_path / "site" / "trainers" / "__init__.py").write_text("raise SystemExit")
    (tmp_path / "site" / "trainers" / "mx" / "__init__.py").write_text("def train(hosts): pass")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert mode.choose_mode(script("from trainers.mx import *"), {}).legacy
    assert "trainers" not in sys.modules


# --- errors ---


def test_a_syntax_error_names_its_line(script):
    """A file that is not Python 3 is an error, not a mode."""
    path = script("import os\n\nprint 'epoch', 1\n")
    with pytest.raises(TrainingError, match=r"^entry.py, line 3: "):
        mode.choose_mode(path, {})


def test_a_script_of_python_2(tmp_path):
    """As most for MXNet 1.2 and older are: the message says how to convert it."""
    (tmp_path / "entry.py").write_text("def train(hosts):\n    print 'started'\n")
    with pytest.raises(TrainingError, match=r"^entry.py, line 2: .*; if this is Python 2, convert"):
        mode.choose_mode(tmp_path / "entry.py", {})


def test_files_that_cannot_be_read(tmp_path):
    """A missing file and one with zero bytes are TrainingErrors."""
    with pytest.raises(TrainingError, match=r"cannot read .*gone\.py: No such file"):
        mode.choose_mode(tmp_path / "gone.py", {})
    (tmp_path / "zero.py").write_bytes(b"x = 1\0")
    with pytest.raises(TrainingError, match=r"zero\.py"):
        mode.choose_mode(tmp_path / "zero.py", {})


def test_bytes_are_read_as_python_reads_them(tmp_path):
    """With a coding line or a byte order mark; a warning of the compiler does not matter."""
    path = tmp_path / "entry.py"
    path.write_bytes("# coding: latin-1\nx = 'é'\ndef train(): '\\d'\n".encode("latin-1"))
    assert mode.choose_mode(path, {}).legacy
    path.write_bytes(b"\xef\xbb\xbfdef train(): pass")
    assert mode.choose_mode(path, {}).legacy
