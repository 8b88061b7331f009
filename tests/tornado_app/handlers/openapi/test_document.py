"""The contract, published: `/openapi.json` is valid, `/docs` shows it, and every problem type can be looked up."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.tornado_app.handlers.test_base import assert_problem
from tornado_app import problems
from tornado_app.handlers.base import BaseHandler
from tornado_app.handlers.openapi import document as openapi
from tornado_app.handlers.server.docs import VIEWER
from tornado_app.problems import Kind

KINDS = [value for value in vars(problems).values() if isinstance(value, Kind)]


@pytest.fixture
async def contract(http: httpx.AsyncClient) -> dict[str, Any]:
    """`/openapi.json` as a client gets it."""
    answer = await http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


class TestDocument:
    async def test_is_valid_openapi_3_1(self, contract: dict[str, Any]) -> None:
        assert contract["openapi"] == "3.1.0"
        OpenAPIV31SpecValidator(contract).validate()

    async def test_every_operation_and_parameter_is_described(self, contract: dict[str, Any]) -> None:
        for path, operations in contract["paths"].items():
            for method, operation in operations.items():
                assert operation["summary"].endswith("."), (method, path)
                for parameter in operation.get("parameters", []):
                    assert parameter.get("description"), (method, path, parameter["name"])

    async def test_every_answer_that_is_no_success_is_problem_details(self, contract: dict[str, Any]) -> None:
        shared = contract["components"]["responses"]
        for operations in contract["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    if int(status) >= 400:
                        whole = shared[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
                        assert list(whole["content"]) == ["application/problem+json"]

    async def test_relative_servers_keep_a_proxys_prefix(self, contract: dict[str, Any]) -> None:
        assert httpx.URL("http://proxy/holdfast/openapi.json").join(contract["servers"][0]["url"]).path == "/holdfast/"

    def test_a_route_without_a_declaration_is_refused(self) -> None:
        class Undeclared(BaseHandler):
            def get(self) -> None: ...

        with pytest.raises(TypeError, match="no @operation"):
            openapi.Contract([("/x", Undeclared, {})]).endpoints  # noqa: B018

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            (r"/metrics", [("/metrics", {})]),
            (r"/openapi\.json", [("/openapi.json", {})]),
            (r"/(?P<id>[^/]+)/process/?", [("/{id}/process", {})]),
            (r"/p/(?P<id>[^/]+)/(?P<verb>a|b-c)", [("/p/{id}/a", {"verb": "a"}), ("/p/{id}/b-c", {"verb": "b-c"})]),
        ],
    )
    def test_paths_of_a_route(self, pattern: str, found: list[tuple[str, dict[str, str]]]) -> None:
        assert openapi.paths(pattern) == found

    @pytest.mark.parametrize("pattern", [r"/a.*", r"/(a|b)", r"/[ab]", r"/\d+"])
    def test_a_route_that_is_more_than_a_path_is_refused(self, pattern: str) -> None:
        with pytest.raises(ValueError, match="more than a path"):
            openapi.paths(pattern)


class TestPage:
    async def test_loads_only_what_this_server_has(self, http: httpx.AsyncClient) -> None:
        page = await http.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert links
        for link in links:
            if link != "data:,":
                answer = await http.get(page.url.join(link))
                assert answer.status_code == 200
                assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_runs_no_script_but_its_own(self, http: httpx.AsyncClient) -> None:
        page = await http.get("/docs")
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        nonce = policy["script-src"].removeprefix("'nonce-").removesuffix("'")
        assert policy["default-src"] == "'none'"
        assert len(nonce) >= 16
        assert page.text.count(f'<script nonce="{nonce}"') == page.text.count("<script") == 2
        assert nonce not in (await http.get("/docs")).text

    @pytest.mark.parametrize("name", ["README.md", "LICENSE-swagger-ui", "..%2Fapp.py", "page.js%00"])
    async def test_nothing_else_is_served_there(self, http: httpx.AsyncClient, name: str) -> None:
        assert_problem(await http.get(f"/docs/{name}"), 404, "not-found")

    def test_the_viewer_comes_with_its_version_and_licence(self) -> None:
        version = re.search(r"Swagger UI (\d+\.\d+\.\d+)", (VIEWER / "README.md").read_text(encoding="utf-8"))
        assert version is not None
        assert version[1] in (VIEWER / "swagger-ui-bundle.js").read_text(encoding="utf-8")
        assert "Apache License" in (VIEWER / "LICENSE-swagger-ui").read_text(encoding="utf-8")


class TestProblemTypes:
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
    async def test_every_line_of_the_catalogue_can_be_looked_up(self, http: httpx.AsyncClient, kind: Kind) -> None:
        said = (await http.get(f"/problems/{kind.slug}")).json()
        assert (said["type"], said["title"]) == (kind.uri, kind.title)
        assert said["status"]

    async def test_it_tells_which_operations_answer_with_it(self, http: httpx.AsyncClient) -> None:
        said = (await http.get("/problems/id-taken")).json()
        assert (said["status"], said["operations"]) == ([400, 409], ["seed_start", "seed_start_post", "start_process"])

    async def test_the_type_of_a_problem_leads_there(self, http: httpx.AsyncClient) -> None:
        refused = await http.get("/v1/processes/none")
        said = await http.get(refused.json()["type"])
        assert said.json()["title"] == refused.json()["title"]

    async def test_another_is_not_found(self, http: httpx.AsyncClient) -> None:
        assert_problem(await http.get("/problems/none"), 404, "not-found")
