"""Train, pack and serve a model and send it requests, by the commands a person would type."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from sklearn.datasets import load_digits

from mms_handler import client

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "build" / "demo"
PORTS = ("18280", "18281")
console = Console(highlight=False)


def main():
    pictures, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(7).permutation(len(labels))
    training, held_out = order[360:], order[:360]
    heading(f"{len(labels)} handwritten digits (UCI), {len(held_out)} of them held out")
    shutil.rmtree(WORK, ignore_errors=True)
    channel = WORK / "train"
    channel.mkdir(parents=True)
    table = np.column_stack([labels[training], pictures[training]])
    np.savetxt(channel / "digits.csv", table, delimiter=",", fmt="%d")

    heading("train a Module with the script's train(); the default save writes it")
    script = HERE / "code" / "digits.py"
    run("train", "--entry-point", script, "--channel", f"train={channel}",
        "--hp", "epochs=20", "--base-dir", WORK)  # fmt: skip

    heading("pack the script and the artifacts")
    run("archive", WORK / "model", "--script", script, "--name", "digits",
        "--model-store", ROOT / "model_archives", "--force")  # fmt: skip

    heading("serve the archive")
    archive = ROOT / "model_archives" / "digits.mar"
    command = command_line("serve", archive, "--port", PORTS[0], "--management-port", PORTS[1])
    with open(WORK / "serve.log", "w") as log, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True
    ) as server:
        try:
            ready = server.stdout.readline().strip()
            if "is ready" not in ready:
                sys.exit(f"the server did not start; see {log.name}")
            heading(ready)
            accuracy = accuracy_of(ready.split()[-1], pictures[held_out], labels[held_out])
        finally:
            server.terminate()
            console.print(server.stdout.read().strip() or "stopped")
    console.print(f"[bold]accuracy over the held-out set: {accuracy:.1%}[/]")
    if accuracy < 0.95:
        sys.exit("the accuracy should be at least 95 %")


def accuracy_of(url, pictures, labels):
    heading("send each held-out picture, as JSON or CSV in turn; each prints label>prediction")
    correct = []
    for index, (picture, label) in enumerate(zip(pictures, labels)):
        if index % 2:
            body, kind = json.dumps([picture.tolist()]), "application/json"
        else:
            body, kind = ",".join(map(str, picture)), "text/csv"
        answer = client.invoke(url, body.encode(), kind)
        if answer.status != 200:
            sys.exit(f"{answer.status} {answer.message()}")
        guess = int(np.argmax(json.loads(answer.body)[0]))
        correct.append(guess == label)
        colour = "green" if correct[-1] else "bold red"
        console.print(f"[{colour}]{label}>{guess}[/]", end="\n" if index % 18 == 17 else "  ")
    console.print()
    return np.mean(correct)


def command_line(*words):
    command = [str(Path(sys.executable).with_name("mms-handler")), *map(str, words)]
    shown = " ".join(["mms-handler", *command[1:]]).replace(f"{ROOT}/", "")
    console.print(f"[cyan]$ {shown}[/]", soft_wrap=True)
    return command


def run(*words):
    if subprocess.call(command_line(*words)):
        sys.exit("the command failed; its last line says why")


def heading(text):
    console.print(f"[bold]{text}[/]", soft_wrap=True)


if __name__ == "__main__":
    main()
