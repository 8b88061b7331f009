"""Files around the source name only what is there: workflows, hooks, templates, fragments of the changelog."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PYTHONS = {"3.11", "3.12", "3.13", "3.14"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_every_yaml_file_can_be_read_and_gives_no_key_twice() -> None:
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
            assert len(keys) == len(set(keys)), f"a key twice: {node.start_mark}"
            return super().construct_mapping(node, deep)

    paths = [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"]
    assert len(paths) >= 6
    for path in paths:
        assert yaml.load(path.read_text(encoding="utf-8"), Strict), path.name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_what_github_asks_for(path: Path) -> None:
    workflow = read(path)
    assert set(workflow) <= {"name", True, "permissions", "concurrency", "jobs"}  # YAML 1.1 reads `on` as true
    assert set(workflow[True]) <= {"push", "pull_request", "workflow_dispatch", "schedule"}
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"]
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step), step
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v4"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_runs_is_there(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for step in steps(read(path)):
        for line in step.get("run", "").splitlines():
            for script in re.findall(r"(?:^|\s)((?:\.ci|tests)/[\w.-]+)(?=\s|$)", line):
                assert (ROOT / script).exists(), script
                if not line.startswith("git "):
                    assert (ROOT / script).stat().st_mode & 0o111, script
            if found := re.match(r"make (\S+)", line):
                assert f"\n{found[1]}:" in makefile


def test_ci_runs_everything_on_linux_and_macos_with_every_python() -> None:
    job = read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]
    assert {name.partition("-")[0] for name in job["strategy"]["matrix"]["os"]} == {"ubuntu", "macos"}
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    (setup,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python")]
    assert set(setup["with"]["python-version"].split()) == PYTHONS


def test_every_python_of_ci_is_one_that_the_package_names() -> None:
    named = set(re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.py").read_text(encoding="utf-8")))
    assert named == PYTHONS


def test_the_newest_versions_are_tried_every_week_and_by_hand() -> None:
    workflow = read(ROOT / ".github/workflows/newest.yml")
    (schedule,) = workflow[True]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
    assert "workflow_dispatch" in workflow[True]
    assert any("make lock" in step.get("run", "") for step in steps(workflow))


def test_each_hook_runs_a_program_of_the_lint() -> None:
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        program = hook["entry"].removeprefix(".venv/bin/python -m ").removeprefix(".venv/bin/").split()[0]
        assert program in lint, hook["id"]


def test_an_issue_form_has_a_label_for_each_question() -> None:
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert forms
    for path in forms:
        form = read(path)
        assert {"name", "description", "body"} <= set(form)
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids))
        assert all(field["attributes"]["label"] for field in form["body"])


def test_the_devcontainer_calls_what_is_there() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert "make test-fast" in container["postCreateCommand"]
    assert container["image"].partition(":")[2].startswith("3.11")


def test_links_of_the_pages_beside_the_documentation_lead_somewhere() -> None:
    for page in (ROOT / "SECURITY.md", ROOT / "changelog.d/README.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert link.startswith("https:") or (page.parent / link).exists(), link


def fragments() -> list[Path]:
    return [path for path in (ROOT / "changelog.d").iterdir() if path.name not in ("README.md", ".gitignore")]


def test_every_fragment_is_a_sentence_for_users() -> None:
    for path in fragments():
        assert re.fullmatch(r"(\+[\w-]+|\d+)\.(new|changed|fixed|removed)\.md", path.name), path.name
        assert path.read_text(encoding="utf-8").rstrip().endswith((".", ")")), path.name


@pytest.mark.slow
def test_fragments_come_to_the_top_of_the_changelog(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d/+this.new.md").write_text("This can be done now.\n")
    (tmp_path / "changelog.d/12.fixed.md").write_text("That no longer happens.\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    build = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "9.9.9", "--date", "2030-01-31"]
    run = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    before = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    text = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    head, marker, rest = before.partition("<!-- newest -->\n")
    assert text.startswith(head + marker)
    assert text.endswith(rest.lstrip("\n"))
    added = text.removeprefix(head + marker).removesuffix(rest.lstrip("\n"))
    assert "## 9.9.9 (2030-01-31)" in added
    assert "### New\n\n- This can be done now." in added
    assert "### Fixed\n\n- That no longer happens. (#12)" in added
