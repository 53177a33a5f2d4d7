"""deploy/monitoring: every query asks for metrics and labels that a real server has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import promql_parser
import pytest
import yaml
from prometheus_lint import checked
from running_mms import Serving, free_ports, wait_for

from mms_handler import client

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())

#: What Prometheus adds to each sample.
TARGET = {"instance", "job"}

SCRIPT = """\
import os

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    context.metrics.add_counter("Rows", 1)
    context.metrics.add_time("Lookup", 1)
    context.metrics.add_error("Odd", 1)
    if data == "die":
        os._exit(1)
    return data, "text/plain"
"""


@pytest.fixture(scope="module")
def scrape(tmp_path_factory) -> dict[str, set[str]]:
    """The labels of each sample of a server whose model has answered, failed and died."""
    folder = tmp_path_factory.mktemp("monitoring")
    (folder / "m" / "code").mkdir(parents=True)
    (folder / "m" / "code" / "inference.py").write_text(SCRIPT)
    with Serving(free_ports(), folder / "m", "--workers", "1") as serving:

        def page() -> dict:
            return checked(client.call("GET", f"{serving.inference}/metrics").body.decode())

        for body in (b"fine", b"die"):
            serving.ask("m", body, content_type="text/csv")
        wait_for(lambda: page().get("mms_handler_worker_deaths_total"), 15)
        wait_for(lambda: page().get("mms_handler_script_errors_total"), 15)
        return {name: {label for each in s for label, _ in each} for name, s in page().items()}


def rules() -> list[dict]:
    (group,) = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    return group["rules"]


def manifests() -> dict[str, dict]:
    text = (FOLDER / "kubernetes.yaml").read_text()
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


def queries() -> Iterator[str]:
    """All queries, with their variables replaced as Grafana does."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expr = re.sub(r"\$(model|version)", ".*", target["expr"])
            yield expr.replace("$__rate_interval", "5m")
    for rule in rules():
        yield rule["expr"]
    for trigger in manifests()["ScaledObject"]["spec"]["triggers"]:
        yield trigger["metadata"]["query"]


def asked(query: str) -> Iterator[tuple[str, set[str]]]:
    """The samples of a query, each with the labels by which it is chosen or grouped."""
    grouped = {
        label
        for labels in re.findall(r"\b(?:by|on|ignoring) \(?\(([^)]*)\)", query)
        for label in re.split(r",\s*", labels)
    }
    for name, chosen in re.findall(r"\b(mms_handler_\w+)(?:\{([^}]*)\})?", query):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen))
        yield name, labels | (grouped if "ignoring" not in query else set())


def test_each_query_has_metrics_and_labels_that_there_are(scrape):
    """By what is chosen and what is grouped."""
    found = list(queries())
    assert len(found) > 40
    for query in found:
        samples = list(asked(query))
        assert samples, query
        for name, labels in samples:
            assert name in scrape, query
            assert labels <= scrape[name] | TARGET, query


def test_each_legend_and_text_has_labels_of_its_query(scrape):
    """Grafana and Prometheus leave others empty."""
    pairs = [
        (target["legendFormat"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]
    pairs += [(str(rule["annotations"]).replace("$labels.", ""), rule["expr"]) for rule in rules()]
    for text, query in pairs:
        shown = set(re.findall(r"\{\{ ?(\w+) ?\}\}", text))
        (name, *_) = (name for name, _ in asked(query))
        kept = re.findall(r"\bby \(([^)]*)\)", query)
        has = set(re.split(r",\s*", kept[0])) if kept else scrape[name] | TARGET
        assert shown <= has, query


def test_each_metric_has_a_place_in_the_page(scrape):
    """docs/observability.md names all that a server has, and nothing else."""
    text = (FOLDER.parents[1] / "docs" / "observability.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \| (?:counter|gauge|histogram|summary) \|", text, re.MULTILINE)
    named = {f"mms_handler_{name}" for row in rows for name in re.findall(r"`(\w+)`", row)}
    has = {re.sub(r"(?<!total)_(bucket|sum|count)$", "", name) for name in scrape}
    families = ("size_bytes", "share_ratio", "value", "values_left_out_total")
    others = {f"mms_handler_script_{name}" for name in families}
    assert has <= named | others
    assert named - has <= others


def test_the_queries_can_be_read(tmp_path):
    """By a parser of PromQL; and as rules by promtool where it is installed."""
    for query in queries():
        promql_parser.parse(query)
    if not shutil.which("promtool"):
        return
    recorded = [{"record": f"q{n}", "expr": query} for n, query in enumerate(queries())]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    for each in (path, FOLDER / "rules.yaml"):
        subprocess.run(["promtool", "check", "rules", str(each)], check=True)


def test_the_dashboards_panels():
    """They fill rows of three, and each has a title, a unit and a text of its own."""
    panels = DASHBOARD["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert places == [(8 * (i % 3), 8 * (i // 3)) for i in range(len(panels))]
    assert (
        len({panel["title"] for panel in panels}) == len({p["id"] for p in panels}) == len(panels)
    )
    for panel in panels:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used - {"__rate_interval"} == variables


def test_the_manifests_belong_to_the_deployment():
    """The monitor chooses its Service and port; the scaler sets the size of the Deployment."""
    text = (FOLDER.parent / "kubernetes.yaml").read_text()
    kinds = {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}
    monitor, scaler = manifests()["ServiceMonitor"], manifests()["ScaledObject"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"] == kinds["Service"]["metadata"]["labels"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in kinds["Service"]["spec"]["ports"]]
    assert endpoint["path"] == "/metrics"
    assert scaler["apiVersion"] == "keda.sh/v1alpha1"
    replaced = kinds["HorizontalPodAutoscaler"]["spec"]
    assert scaler["spec"]["scaleTargetRef"] == replaced["scaleTargetRef"]
    assert scaler["spec"]["minReplicaCount"] == replaced["minReplicas"]
    assert scaler["spec"]["maxReplicaCount"] == replaced["maxReplicas"]
    for trigger in scaler["spec"]["triggers"]:
        assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
        assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold"}
        assert float(trigger["metadata"]["threshold"]) > 0
        assert f'job="{kinds["Service"]["metadata"]["name"]}"' in trigger["metadata"]["query"]
