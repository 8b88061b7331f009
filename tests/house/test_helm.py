"""The Helm chart: a schema checks its values, its templates are YAML, and its server can start with its flags."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.helm_templates import Chart, merged
from tornado_app import settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops/helm/holdfast"
TOKEN = "0123456789abcdef" * 3
LEAST: dict[str, Any] = {"host": "hub.example", "hub": {"apiToken": TOKEN}}
EVERYTHING: dict[str, Any] = {
    **LEAST,
    "hub": {"existingSecret": "mine", "baseUrl": "/jupyter/"},
    "allowCode": True,
    "perUser": False,
    "databases": {"main": "postgresql+psycopg://u@h/d", "other": "sqlite:////tmp/x"},
    "environment": {"HOLDFAST_MAX_RUNNING": "8"},
    "files": {"storageClass": "fast", "accessModes": ["ReadWriteMany"], "size": "2Ti"},
    "data": {"existingClaim": "journal"},
    "ingress": {"enabled": True, "tls": [{"hosts": ["hub.example"], "secretName": "tls"}]},
    "networkPolicy": {"namespaces": ["monitoring"]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "metricsToken": "m" * 20,
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "hub", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}
VALUES = [pytest.param(LEAST, id="least"), pytest.param(EVERYTHING, id="everything")]


@pytest.fixture
def chart() -> Chart:
    return Chart(FOLDER)


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def container(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = of_kind(documents, "Deployment")
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("values", VALUES)
def test_it_renders_to_objects_that_belong_together(chart: Chart, values: dict[str, Any]) -> None:
    jsonschema.validate(merged(chart.values, values), chart.schema)
    documents = chart.render("ours", values)
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    assert len(names) == len(documents)
    (deployment,), (service,) = of_kind(documents, "Deployment"), of_kind(documents, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    claims = {claim["metadata"]["name"] for claim in of_kind(documents, "PersistentVolumeClaim")} | {"journal"}
    for volume in deployment["spec"]["template"]["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
    mounted = {mount["name"] for mount in container(documents)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}


@pytest.mark.parametrize("values", VALUES)
def test_the_server_can_start_with_what_the_container_gives_it(chart: Chart, values: dict[str, Any]) -> None:
    documents = chart.render("ours", values)
    found = container(documents)
    (secret,) = of_kind(documents, "Secret")
    environment = {}
    for variable in found["env"]:
        value = variable.get("value")
        if value is None:
            source = variable["valueFrom"]
            key = source.get("secretKeyRef")
            value = "10.1.2.3" if key is None else secret["stringData"].get(key["key"], TOKEN)
        environment[variable["name"]] = value
    arguments = [re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], argument) for argument in found["args"]]
    read = settings.read(arguments, environment)
    path = merged(chart.values, values)["hub"]["baseUrl"] + "services/holdfast/"
    assert (read.auth, read.base_url, read.allow_host) == ("jupyterhub", path, ("hub.example", "10.1.2.3"))
    assert read.per_user is merged(chart.values, values)["perUser"]
    assert set(read.database) == set(values.get("databases", ()))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert found[probe]["httpGet"]["path"].startswith(f"{path}health/")
    assert {"JUPYTERHUB_API_TOKEN", "JUPYTERHUB_API_URL", "JUPYTERHUB_CLIENT_ID"} <= environment.keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"host": "hub.example"},
        {"host": "hub.example:443", "hub": {"apiToken": TOKEN}},
        {**LEAST, "replicas": 2},
        {**LEAST, "hub": {"apiToken": "short"}},
        {**LEAST, "peruser": True},
        {**LEAST, "environment": {"PATH": "/"}},
        {**LEAST, "files": {"size": "much"}},
        {**LEAST, "hub": {"apiToken": TOKEN, "baseUrl": "/x"}},
    ],
)
def test_values_that_can_not_work_are_refused(chart: Chart, wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(chart.values, wrong), chart.schema)


def test_the_page_for_operators_has_values_that_fit(chart: Chart) -> None:
    page = (ROOT / "docs/hub.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n# values of ops/helm/holdfast\n(.*?)```", page, re.S)
    values = yaml.safe_load(text)
    values["hub"]["apiToken"] = TOKEN
    jsonschema.validate(merged(chart.values, values), chart.schema)
    chart.render("ours", values)


@pytest.mark.slow
@pytest.mark.parametrize("values", VALUES)
def test_helm_makes_the_same_of_it(chart: Chart, values: dict[str, Any], tmp_path: Path) -> None:
    """Compare with `helm` where it is installed; no registry that the tests use has it."""
    helm = shutil.which("helm")
    if helm is None:
        assert chart.render("ours", values), "rendered by our own means above"
        return
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    lint = subprocess.run([helm, "lint", str(FOLDER), "--values", str(file)], capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout + lint.stderr
    made = subprocess.run(
        [helm, "template", "ours", str(FOLDER), "--values", str(file)], capture_output=True, text=True, check=True
    )
    theirs = [document for document in yaml.safe_load_all(made.stdout) if document is not None]

    def by_name(documents: list[dict[str, Any]]) -> dict[str, Any]:
        return {f"{document['kind']} {document['metadata']['name']}": document for document in documents}

    assert by_name(theirs) == by_name(chart.render("ours", values))
