"""`Block-Digest` of a whole file: computed as it comes, by every way in, and verified before it is published."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import random
from pathlib import Path

import httpx
import pytest

from tests.support.block_digests import block_digest as whole
from tests.support.block_digests import block_field as field
from tests.support.uploads import OCTETS, PARTIAL, TUS, metadata, shown
from tornado_app.settings import Settings

MIB = 1_048_576
DATA = random.Random(2).randbytes(2 * MIB + 5000)
FLIPPED = DATA[: MIB + 7] + bytes([DATA[MIB + 7] ^ 1]) + DATA[MIB + 8 :]
OLD = b"the old file"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, allow_origin=("https://page.example",))


@pytest.fixture
def files(settings: Settings) -> Path:
    return settings.files_dir


async def over_tus(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    created = {**TUS, "Upload-Length": str(len(DATA)), **metadata(filename="a", overwrite="true")}
    url = (await http.post("/v1/uploads", headers=created)).headers["Location"]
    for at in range(0, len(DATA) - MIB, MIB):
        await http.patch(url, headers={**OCTETS, "Upload-Offset": str(at)}, content=DATA[at : at + MIB])
    return await http.patch(url, headers={**OCTETS, "Upload-Offset": str(2 * MIB), **headers}, content=DATA[2 * MIB :])


async def over_tus_at_its_creation(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = metadata(filename="a", overwrite="true")
    return await http.post(
        "/v1/uploads", headers={**OCTETS, "Upload-Length": str(len(DATA)), **named, **headers}, content=DATA
    )


async def over_the_draft(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = {"Content-Disposition": 'inline; filename="a"', "Upload-Complete": "?0"}
    made = await http.post("/v1/uploads?overwrite=true", headers=named, content=DATA[:MIB])
    rest = {**PARTIAL, "Upload-Offset": str(MIB), "Upload-Complete": "?1", **headers}
    return await http.patch(made.headers["Location"], headers=rest, content=DATA[MIB:])


async def over_a_put(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await http.put("/v1/files/a", headers=headers, content=DATA)


async def over_one_request(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = {"Content-Disposition": 'inline; filename="a"', **headers}
    return await http.post("/v1/uploads?overwrite=true", headers=named, content=DATA)


async def over_a_form(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await http.post("/v1/uploads?overwrite=true", headers=headers, files={"file": ("a", DATA)})


WAYS = [over_tus, over_tus_at_its_creation, over_the_draft, over_a_put, over_one_request, over_a_form]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
async def test_a_file_has_its_block_digest_at_once_and_the_answer_says_it(
    http: httpx.AsyncClient, files: Path, way: object
) -> None:
    answer = await way(http)  # type: ignore[operator]
    assert answer.is_success, answer.text
    for told in (answer, await http.get("/v1/files/a"), await http.head("/v1/files/a")):
        assert told.headers["Block-Digest"] == field(DATA)["Block-Digest"]
        assert told.headers["ETag"] == f'"{whole(DATA)[:32]}"'
    part = await http.get("/v1/files/a", headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.headers["Block-Digest"]) == (206, field(DATA)["Block-Digest"])
    unchanged = await http.get("/v1/files/a", headers={"If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status_code, "Block-Digest" in unchanged.headers) == (304, False)
    [listed] = (await http.get("/v1/files")).json()["items"]
    assert (listed["block_digest"], listed["sha256"]) == (whole(DATA), None)
    if answer.content and answer.json():
        assert answer.json()["block_digest"] == whole(DATA)
    if way is not over_a_put:
        assert answer.headers["Last-Modified"] == part.headers["Last-Modified"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
async def test_the_right_digest_is_accepted_and_a_wrong_one_publishes_nothing(
    http: httpx.AsyncClient, files: Path, way: object
) -> None:
    (files / "a").write_bytes(OLD)
    answer = await way(http, **field(FLIPPED))  # type: ignore[operator]
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/digest-mismatch")
    assert whole(DATA) in answer.json()["detail"]
    assert shown(files) == {"a": OLD}
    answer = await way(http, **field(DATA))  # type: ignore[operator]
    assert answer.is_success, answer.text
    assert shown(files) == {"a": DATA}


@pytest.mark.parametrize("ill_formed", ["blake3-1m=abc", "blake3-1m=:AAAA:", "((", "blake3-1m"])
@pytest.mark.parametrize("way", [over_tus_at_its_creation, over_the_draft, over_a_put, over_one_request])
async def test_an_ill_formed_digest_is_refused(
    http: httpx.AsyncClient, files: Path, way: object, ill_formed: str
) -> None:
    answer = await way(http, **{"Block-Digest": ill_formed})  # type: ignore[operator]
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Block-Digest can't be read")
    assert shown(files) == {}


async def test_a_mismatch_keeps_what_can_be_resumed_and_nothing_of_one_request(http: httpx.AsyncClient) -> None:
    tus = await over_tus(http, **field(FLIPPED))
    assert tus.headers["Upload-Offset"] == str(len(DATA))
    draft = await over_the_draft(http, **field(FLIPPED))
    assert (draft.headers["Upload-Offset"], draft.headers["Upload-Complete"]) == (str(len(DATA)), "?0")
    await over_a_put(http, **field(FLIPPED))
    await over_one_request(http, **field(FLIPPED))
    left = (await http.get("/v1/uploads")).json()["items"]
    assert [(each["offset"], each["complete"]) for each in left] == [(len(DATA), False)] * 2


async def test_an_upload_of_deferred_length_ends_with_an_empty_patch_that_has_the_digest(
    http: httpx.AsyncClient, files: Path
) -> None:
    created = {**TUS, "Upload-Defer-Length": "1", **metadata(filename="a")}
    url = (await http.post("/v1/uploads", headers=created)).headers["Location"]
    await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=DATA)
    last = {**OCTETS, "Upload-Offset": str(len(DATA)), "Upload-Length": str(len(DATA))}
    wrong = await http.patch(url, headers={**last, **field(FLIPPED)})
    assert (wrong.status_code, shown(files)) == (400, {})
    for _ in range(2):  # the answer may have been lost
        answer = await http.patch(url, headers={**last, **field(DATA)})
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(DATA)))
        head = await http.head("/v1/files/a")
        for name in ("ETag", "Block-Digest", "Last-Modified"):
            assert answer.headers[name] == head.headers[name]
    assert shown(files) == {"a": DATA}
    again = await http.patch(url, headers={**last, **field(FLIPPED)})
    assert (again.status_code, again.json()["type"]) == (400, "/problems/digest-mismatch")


async def test_a_client_that_sends_the_sha256_alone_gets_it_verified(http: httpx.AsyncClient, files: Path) -> None:
    digest = hashlib.sha256(DATA).digest()
    right = {"Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:"}
    for way in (over_a_put, over_one_request):
        answer = await way(http, **right)
        assert (answer.json()["sha256"], answer.json()["block_digest"]) == (digest.hex(), whole(DATA))
        wrong = await way(http, **{"Repr-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"})
        assert wrong.status_code == (400 if way is over_a_put else 460)
    assert shown(files) == {"a": DATA}


async def test_small_files_have_both_digests_at_once(http: httpx.AsyncClient) -> None:
    for size, is_small in ((0, True), (65_536, True), (65_537, False)):
        answer = await http.put("/v1/files/b", content=bytes(size))
        assert answer.json()["sha256"] == (hashlib.sha256(bytes(size)).hexdigest() if is_small else None)
        assert answer.json()["block_digest"] == whole(bytes(size))


async def test_the_server_asks_for_block_digests(http: httpx.AsyncClient) -> None:
    created = {**TUS, "Upload-Length": "2", **metadata(filename="a")}
    made = await http.post("/v1/uploads", headers=created)
    url = made.headers["Location"]
    for answer in (
        made,
        await http.options("/v1/uploads"),
        await http.head(url, headers=TUS),
        await http.patch(url, headers={**OCTETS, "Upload-Offset": "0"}, content=b"ab"),
    ):
        assert answer.headers["Want-Block-Digest"] == "blake3-1m=10"


async def test_pages_of_other_origins_may_send_and_read_block_digests(http: httpx.AsyncClient) -> None:
    for path, method in (("/v1/uploads", "PATCH"), ("/v1/files/a", "PUT")):
        headers = {"Origin": "https://page.example", "Access-Control-Request-Method": method}
        answer = await http.options(path, headers=headers)
        assert "Block-Digest" in answer.headers["Access-Control-Allow-Headers"].split(", ")
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Block-Digest", "ETag", "Last-Modified"} <= set(exposed)


class TestWithoutCheck:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return dataclasses.replace(settings, check_uploads=False)

    async def test_no_block_digest_is_made_or_asked_for(self, http: httpx.AsyncClient) -> None:
        answer = await over_tus(http)
        assert (answer.status_code, "Block-Digest" in answer.headers) == (204, False)
        assert "Want-Block-Digest" not in answer.headers
        assert (await http.get("/v1/files")).json()["items"][0]["block_digest"] is None

    @pytest.mark.parametrize("way", [over_tus, over_a_put])
    async def test_one_that_a_client_sends_is_verified_all_the_same(
        self, http: httpx.AsyncClient, files: Path, way: object
    ) -> None:
        assert (await way(http, **field(FLIPPED))).status_code == 400  # type: ignore[operator]
        assert shown(files) == {}
        assert (await way(http, **field(DATA))).is_success  # type: ignore[operator]
        assert shown(files) == {"a": DATA}
