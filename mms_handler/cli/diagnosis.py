"""The command doctor."""

from __future__ import annotations

import json

import click

from mms_handler.cli.command import end, examples, group, print_rows


@group.command(
    epilog=examples(
        "mms-handler doctor",
        "SAGEMAKER_BIND_TO_PORT=9000 mms-handler doctor --json",
    )
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> None:
    """Look at what this machine has, and say what to do.

    Looks at the settings, Python, NumPy, MXNet, MMS, Java, the ports, the folders, descriptors,
    memory and cores, disk and clock.  Exits with 1 if something stands in the way.
    """
    from mms_handler import api

    findings = api.doctor()
    problems = [finding.name for finding in findings if finding.state == "problem"]
    if as_json:
        entries = [finding._asdict() for finding in findings]
        click.echo(json.dumps({"ok": not problems, "findings": entries}, indent=2))
        raise SystemExit(bool(problems))
    width = max(len(finding.name) for finding in findings)
    rows = []
    for finding in findings:
        advice = f"; {finding.advice}" if finding.advice else ""
        rows.append((f"{finding.state:<8} {finding.name:<{width}}", f"{finding.text}{advice}"))
    print_rows(rows)
    if problems:
        end(f"in the way: {', '.join(problems)}", 1)
    click.echo("nothing stands in the way")
