"""What ``check`` says about a model: what it is, which questions it passed, and a verdict."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from mms_handler import schema


class Question(NamedTuple):
    """A statement about a model that holds, does not hold, or was not tried."""

    statement: str
    holds: bool | None


class Report(NamedTuple):
    """What is known about a model.

    Attributes:
        subject: the path that was checked.
        details: names and values for people: the script, how each function is called, the reply.
        questions: what was tried, in its order.
        failure: why it cannot be served as it is; None if it can.
        traceback: of the script's exception, if one is the reason.
        doubts: sentences about names in the script that are nearly those of the contract.
    """

    subject: str
    details: Sequence[tuple[str, str]]
    questions: Sequence[Question]
    failure: str | None = None
    traceback: str = ""
    doubts: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """One sentence: whether it can be served, or why not, and what may be misspelt."""
        doubts = "; ".join(self.doubts)
        if self.failure:
            return f"{self.failure}; {doubts}" if doubts else self.failure
        return f"{self.subject} can be served{', but ' if doubts else ''}{doubts}"


def make_report(
    subject: str, inspected: Mapping[str, Any], archive: str, request: str, differs: str | None
) -> Report:
    """The report about a model that a process tried to load.

    Args:
        subject: the path that was checked.
        inspected: what the hidden command ``inspect`` reports.
        archive: that an archive is safe, as a statement; "" for a folder.
        request: whose request was sent: "the packed sample", for example; "" if none was.
        differs: that the reply is not the packed one, as the rest of a sentence about the sample;
            "" if it is the packed one; None if there is none to compare with.
    """
    questions = [Question(archive, True)] if archive else []
    traceback = inspected.get("traceback", "")
    if "error" in inspected:
        questions.append(Question("it loads", False))
        reason = f"{subject} does not load: {inspected['error']}"
        return Report(subject, [], questions, reason, traceback)
    questions.append(Question("it loads", True))
    failure: str | None = None
    if not request:
        questions.append(Question("it answers a request: --sample FILE sends one", None))
    else:
        status = inspected["status"]
        questions.append(Question(f"it answers {request}", status < 400))
        if status >= 400:
            failure = f"{request} gets {status}: {inspected['reply']}"
        if differs is not None:
            questions.append(Question("the reply is the same as when it was packed", not differs))
            failure = f"the sample {differs}" if differs else failure
    doubts = inspected.get("doubts", ())
    return Report(subject, _details(inspected), questions, failure, traceback, doubts)


def make_script_report(subject: str, inspected: Mapping[str, Any]) -> Report:
    """The report about a script alone, which a process tried to import."""
    if "error" in inspected:
        failure = f"{subject} cannot be imported: {inspected['error']}"
        questions = [Question("it can be imported, and its functions fit the contract", False)]
        return Report(subject, [], questions, failure, inspected.get("traceback", ""))
    has_model_fn = any(name == "model_fn" for name, *_ in inspected["functions"])
    missing = (
        "the files that its model_fn reads"
        if has_model_fn
        else "model-symbol.json and model-0000.params, which the default model_fn reads"
    )
    return Report(
        subject,
        _details(inspected),
        [
            Question("it can be imported, and its functions fit the contract", True),
            Question(f"there is a model: a folder with {missing}", False),
        ],
        f"{subject} is a script without a model; to check it with one: mms-handler check MODEL_DIR "
        f"--script {subject}",
        doubts=inspected.get("doubts", ()),
    )


def _details(inspected: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if "handler" in inspected:
        rows.append(("handler", f"{inspected['handler']}, the archive's own"))
    else:
        rows.append(("script", inspected["script"] or "none: all functions are the defaults"))
    for hook, is_default, description in inspected.get("functions", ()):
        rows.append((hook, "the default" if is_default else description))
    if "files" in inspected:
        rows.append(("files", ", ".join(inspected["files"]) or "none"))
    if "model" in inspected:
        rows.append(("model", inspected["model"]))
    if "schema" in inspected:
        for name, tensors in schema.read(inspected["schema"]).named():
            rows.append((name, ", ".join(map(str, tensors)) or "not known"))
    if "reply" in inspected:
        reply = f"{inspected['status']} {inspected['content_type']}: {inspected['reply']}"
        rows.append(("reply", reply))
    return rows
