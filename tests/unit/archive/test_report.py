"""archive.report: details, questions and a verdict, of what a process found out about a model."""

from __future__ import annotations

import pytest

from mms_handler.archive.report import make_report, make_script_report

FUNCTIONS = [("model_fn", False, "model_fn(dir)"), ("input_fn", True, "")]

LOADED = {
    "script": "code/inference.py",
    "functions": FUNCTIONS,
    "files": ["net.params", "a.txt"],
    "model": "a Module",
}


def answered(status, **more):
    return {**LOADED, "status": status, "content_type": "text/csv", "reply": "1,2", **more}


def of(inspected, archive="", request="", differs=None):
    report = make_report("m", inspected, archive, request, differs)
    return [tuple(question) for question in report.questions], report.verdict


def test_a_model_that_loads():
    """A request was not tried; so nothing speaks against it."""
    untried = ("it answers a request: --sample FILE sends one", None)
    assert of(LOADED) == ([("it loads", True), untried], "m can be served")
    assert of(LOADED, archive="it is safe")[0][0] == ("it is safe", True)


def test_a_model_that_does_not_load():
    inspected = {"error": "model_fn: no", "traceback": "Traceback", **LOADED}
    assert of(inspected, "it is safe", "the sample", "differs") == (
        [("it is safe", True), ("it loads", False)],
        "m does not load: model_fn: no",
    )
    report = make_report("m", inspected, "", "", None)
    assert (report.details, report.traceback, report.doubts) == ([], "Traceback", ())
    assert make_report("m", {"error": "no"}, "", "", None).traceback == ""


@pytest.mark.parametrize(
    ("status", "differs", "holds", "verdict"),
    [
        (200, None, [True], "m can be served"),
        (399, None, [True], "m can be served"),
        (400, None, [False], "the packed sample gets 400: 1,2"),
        (500, None, [False], "the packed sample gets 500: 1,2"),
        (200, "", [True, True], "m can be served"),
        (200, "gets another reply", [True, False], "the sample gets another reply"),
        (400, "", [False, True], "the packed sample gets 400: 1,2"),
    ],
)
def test_a_model_that_answers(status, differs, holds, verdict):
    """A sample may also have the reply of the day on which it was packed."""
    questions, said = of(answered(status), request="the packed sample", differs=differs)
    statements = ["it answers the packed sample", "the reply is the same as when it was packed"]
    assert questions == [("it loads", True), *zip(statements, holds)]
    assert said == verdict


def test_doubts():
    """The verdict has them, whatever it is."""
    doubts = ["model_func is never called", "no_fn neither"]
    words = "model_func is never called; no_fn neither"
    assert of({**LOADED, "doubts": doubts})[1] == f"m can be served, but {words}"
    bad = answered(500, doubts=doubts)
    assert of(bad, request="it")[1] == f"it gets 500: 1,2; {words}"


@pytest.mark.parametrize(
    ("more", "details"),
    [
        pytest.param(
            {},
            [
                ("script", "code/inference.py"),
                ("model_fn", "model_fn(dir)"),
                ("input_fn", "the default"),
                ("files", "net.params, a.txt"),
                ("model", "a Module"),
                ("reply", "200 text/csv: 1,2"),
            ],
            id="all",
        ),
        pytest.param(
            {"script": "", "functions": [], "files": []},
            [
                ("script", "none: all functions are the defaults"),
                ("files", "none"),
                ("model", "a Module"),
                ("reply", "200 text/csv: 1,2"),
            ],
            id="a model without a script",
        ),
        pytest.param(
            {"handler": "h:handle", "functions": []},
            [
                ("handler", "h:handle, the archive's own"),
                ("files", "net.params, a.txt"),
                ("model", "a Module"),
                ("reply", "200 text/csv: 1,2"),
            ],
            id="another handler",
        ),
    ],
)
def test_details(more, details):
    """In the order in which a person wants to know."""
    assert make_report("m", answered(200, **more), "", "it", None).details == details


def test_little_is_known():
    """What was not looked for is left out."""
    assert make_report("m", {"script": "s.py"}, "", "", None).details == [("script", "s.py")]


@pytest.mark.parametrize(
    ("functions", "files"),
    [
        (FUNCTIONS, "the files that its model_fn reads"),
        (
            [("input_fn", True, "")],
            "model-symbol.json and model-0000.params, which the default model_fn reads",
        ),
    ],
)
def test_a_script_alone(functions, files):
    """It fits, but there is nothing to serve; the verdict says how to check it with a model."""
    inspected = {"script": "s.py", "functions": functions, "doubts": ["a doubt"]}
    report = make_script_report("s.py", inspected)
    assert [tuple(question) for question in report.questions] == [
        ("it can be imported, and its functions fit the contract", True),
        (f"there is a model: a folder with {files}", False),
    ]
    assert report.details[0] == ("script", "s.py")
    assert report.verdict == (
        "s.py is a script without a model; to check it with one: mms-handler check MODEL_DIR "
        "--script s.py; a doubt"
    )
    assert report.traceback == ""


def test_a_script_that_cannot_be_imported():
    report = make_script_report("s.py", {"error": "no", "traceback": "Traceback"})
    statement = "it can be imported, and its functions fit the contract"
    assert [tuple(question) for question in report.questions] == [(statement, False)]
    assert report.verdict == "s.py cannot be imported: no"
    assert (report.details, report.traceback) == ([], "Traceback")
    assert make_script_report("s.py", {"error": "no"}).traceback == ""
