"""What CONTRIBUTING.md and the files for editors and git say is so."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MADE = {
    ".venv",
    "codecs/",
    ".venv/bin/pip",
    ".venv/bin/pre-commit",
    "dist/",
    "site/index.html",
}  # they are made, not kept


def targets():
    """make's, as ``make help`` lists them."""
    return set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_path_that_contributing_names_exists():
    """In its table and its sentences."""
    words = re.findall(r"`([\w./-]+)`", CONTRIBUTING)
    paths = {word for word in words if "/" in word or word.endswith((".py", ".md", ".toml"))}
    assert {"mms_handler/worker/", "tests/e2e/", "deploy/", ".ci/run"} <= paths
    inside = ROOT / "mms_handler" / "worker", ROOT / "mms_handler" / "models"
    missing = {
        path for path in paths - MADE if not any((base / path).exists() for base in (ROOT, *inside))
    }
    assert missing == set()


def test_every_package_is_in_the_table():
    """So that a new one is explained."""
    folders = [path.parent.name for path in (ROOT / "mms_handler").glob("*/__init__.py")]
    assert folders
    assert {name for name in folders if f"| `mms_handler/{name}/` |" not in CONTRIBUTING} == set()


def test_every_link_leads_to_a_file():
    """Also in SECURITY.md; a heading that a link names is there."""
    links = re.findall(r"\]\(([^)]+)\)", CONTRIBUTING + (ROOT / "SECURITY.md").read_text())
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        text = (ROOT / path).read_text()
        titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert heading in anchors | {""}, link


def test_every_target_has_its_line_in_help():
    """And each that CONTRIBUTING.md names is one."""
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(phony.split()) == targets()
    named = set(re.findall(r"(?:`|\$ )make ([a-z0-9-]+)", CONTRIBUTING))
    assert named <= targets()


def test_the_commit_hook_runs_make_fix():
    """With the tools of .venv: nothing is fetched from elsewhere."""
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (hook,) = repo["hooks"]
    assert (repo["repo"], hook["language"], hook["entry"]) == ("local", "system", "make fix")
    assert not hook["pass_filenames"]


def test_editors_have_the_linters_line():
    """As long as ruff's."""
    (limit,) = re.findall(
        r"^line-length = (\d+)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert f"\nmax_line_length = {limit}\n" in (ROOT / ".editorconfig").read_text()
