"""Uploads against a model: whatever is interleaved, offsets, bytes and files are what a simple account says."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from tests.support.files import file_service
from tests.support.uploads import shown
from tornado_app import clocks, problems
from tornado_app.files.uploads.digest_check import DigestCheck
from tornado_app.files.uploads.upload import Kind, UploadRecord
from tornado_app.settings import Settings

T = TypeVar("T")

NAMES = ("a", "b", "d/c")
pieces = st.binary(max_size=8)


@dataclass
class Account:
    """Expected state of an upload."""

    kind: Kind
    name: str | None
    length: int | None
    overwrite: bool
    bytes: bytes = b""
    complete: bool = False
    parts: tuple[str, ...] = ()
    broken: bool = False

    @property
    def has_all(self) -> bool:
        return self.length is not None and len(self.bytes) == self.length


class UploadsModel(RuleBasedStateMachine):
    """Appends, cuts, wrong offsets, digests, restarts, crashes, cancels, expiries, conflicts and concatenation."""

    uploads = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # each publication is an fsync
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-model-", dir=memory))
        self.settings = Settings(
            files_dir=self.folder, data_dir=self.folder / ".data", reserve_space=0, max_uploads=10**6
        )
        self.made = 0
        self.accounts: dict[str, Account] = {}
        self.files: dict[str, bytes] = {}
        self.loop = asyncio.new_event_loop()
        self.start()

    def fresh(self) -> str:
        self.made += 1
        return f"u{self.made}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def attempt(self, work: Coroutine[Any, Any, object]) -> problems.Kind | None:
        """The kind of a refusal, None if there was none."""
        try:
            self.run(work)
        except problems.ProblemError as error:
            return error.kind
        return None

    def start(self) -> None:
        self.service = file_service(self.settings)
        self.run(self.service.open())
        self.run(self.idle())
        for id, account in self.accounts.items():
            if account.kind == "tus":
                self.expect_end(id)

    def is_refused(self, id: str) -> None:
        """Check that a broken upload stays broken, for everybody but who gives it up."""
        with pytest.raises(problems.ProblemError) as refused:
            self.service.uploads.get(id)
        assert refused.value.kind is problems.BROKEN

    async def idle(self) -> None:
        """Until nothing goes on in the background."""
        await self.service.uploads.wait_for_tasks()

    def expect_end(self, id: str) -> problems.Kind | None:
        """Expect a file of an upload that has every byte, or whose parts have, unless the name is taken."""
        account = self.accounts[id]
        if account.complete:
            return None
        if account.parts and account.length is None:
            parts = [self.accounts.get(part) for part in account.parts]
            if not all(part is not None and part.complete for part in parts):
                return None
            account.bytes = b"".join(part.bytes for part in parts if part is not None)
            account.length = len(account.bytes)
        if not account.has_all:
            return None
        if account.name is None:
            account.complete = True
            for other in [other for other, its in self.accounts.items() if id in its.parts]:
                self.expect_end(other)
        elif account.name in self.files and not account.overwrite:
            return problems.FILE_EXISTS
        else:
            account.complete = True
            self.files[account.name] = account.bytes
        return None

    # -- what clients do

    @rule(
        target=uploads,
        kind=st.sampled_from(["tus", "draft"]),
        name=st.sampled_from(NAMES),
        length=st.none() | st.integers(1, 20),
        overwrite=st.booleans(),
    )
    def create(self, kind: Kind, name: str, length: int | None, overwrite: bool) -> str:
        record = UploadRecord(kind, name, time.time(), length=length, overwrite=overwrite)
        refused = self.attempt(self.service.uploads.create(record, id := self.fresh()))
        if name in self.files and not overwrite:
            assert refused is problems.FILE_EXISTS
            id = ""
        else:
            assert refused is None
            self.accounts[id] = Account(kind, name, length, overwrite)
        return id

    @rule(target=uploads, length=st.none() | st.integers(1, 10))
    def create_part(self, length: int | None) -> str:
        record = UploadRecord("tus", None, time.time(), length=length, concat="partial")
        self.run(self.service.uploads.create(record, id := self.fresh()))
        self.accounts[id] = Account("tus", None, length, False)
        return id

    @rule(target=uploads, picked=st.lists(uploads, min_size=1, max_size=3), name=st.sampled_from(NAMES))
    def concatenate(self, picked: list[str], name: str) -> str:
        parts = [id for id in picked if id in self.accounts and self.accounts[id].name is None]
        refused = None
        try:
            self.service.uploads.concatenation.check(parts)
        except problems.ProblemError as error:
            refused = error.kind
        assert (refused is None) == bool(parts)
        if refused is not None:
            return ""
        record = UploadRecord("tus", name, time.time(), overwrite=True, concat="final;", parts=parts)
        upload = self.run(self.service.uploads.create(record, id := self.fresh()))
        self.accounts[id] = Account("tus", name, None, True, parts=tuple(parts))
        self.run(self.service.uploads.concatenation.begin(upload))
        self.expect_end(id)
        return id

    @rule(
        id=uploads,
        data=pieces,
        how=st.sampled_from(["whole", "cut", "rolled back", "right digest", "wrong digest", "cut with a digest"]),
        last=st.booleans(),
        astray=st.sampled_from([0, 0, 0, -1, 1]),
    )
    def append(self, id: str, data: bytes, how: str, last: bool, astray: int) -> None:
        account = self.accounts.get(id)
        if account is None or account.parts:
            return
        offset = len(account.bytes) + astray
        check = None
        if "digest" in how:
            check = DigestCheck({"sha256": hashlib.sha256(b"other" if "wrong" in how else data).digest()})
        if account.broken:
            self.is_refused(id)
            return
        upload = self.service.uploads.get(id)
        if astray:
            assert self.attempt(self.service.uploads.write(upload, offset, check=check)) is problems.OFFSET_MISMATCH
            return
        writer = self.run(self.service.uploads.write(upload, offset, check=check))

        async def send() -> None:
            for byte in data:
                writer.write(bytes([byte]))

        self.run(send())
        room = len(data) if account.length is None else account.length - len(account.bytes)
        overrun = len(data) > room
        account.broken = overrun and account.kind == "draft" and how != "rolled back"
        if how in ("cut", "cut with a digest"):
            self.run(self.service.uploads.abandon(writer, "connection lost"))
            account.bytes += data[:room] if how == "cut" else b""
            if account.kind == "tus" and (not overrun or account.name is None):
                self.expect_end(id)
            self.run(self.idle())
            return
        if how == "rolled back":
            self.run(writer.roll_back("rolled back"))
            return
        is_last = last and account.kind == "draft" and not account.complete
        refused = self.attempt(self.service.uploads.finish(writer, last=is_last))
        if overrun:
            assert refused is problems.BAD_BODY
            account.bytes += data[:room] if how == "whole" else b""
            if account.name is None:
                self.expect_end(id)
            self.run(self.idle())
            return
        if how == "wrong digest" and not account.complete:
            assert refused is problems.DIGEST_MISMATCH
            return
        if how == "wrong digest":
            return
        account.bytes += data
        if is_last:
            account.length = len(account.bytes) if account.length is None else account.length
            if not account.has_all:
                assert refused is problems.INCONSISTENT_LENGTH
                return
        if account.kind == "tus" or is_last:
            assert refused is self.expect_end(id)
        else:
            assert refused is None
        self.run(self.idle())

    @rule(id=uploads, length=st.integers(0, 20))
    def declare(self, id: str, length: int) -> None:
        account = self.accounts.get(id)
        if account is None or account.parts or account.complete or account.broken:
            return

        async def append_nothing() -> None:
            uploads = self.service.uploads
            writer = await uploads.write(uploads.get(id), len(account.bytes))
            try:
                await uploads.set_length(writer.upload, length)
                await uploads.finish(writer)
            finally:
                writer.release()
            await self.idle()

        refused = self.attempt(append_nothing())
        if account.length == length or (account.length is None and length >= len(account.bytes)):
            account.length = length
            assert refused is (self.expect_end(id) if account.kind == "tus" else None)
        else:
            assert refused is problems.INCONSISTENT_LENGTH

    @rule(id=uploads)
    def ask(self, id: str) -> None:
        if id not in self.accounts:
            return
        if self.accounts[id].broken:
            self.is_refused(id)
            return
        refused = self.attempt(self.service.uploads.request_release(self.service.uploads.get(id)))
        self.run(self.idle())
        wanted = self.expect_end(id) if self.accounts[id].kind == "tus" else None
        assert refused is wanted

    @rule(id=consumes(uploads))
    def cancel(self, id: str) -> None:
        if self.accounts.pop(id, None) is not None:
            self.run(self.service.uploads.cancel(self.service.uploads.get(id, broken=True)))

    # -- what else happens

    @rule()
    def restart(self) -> None:
        self.run(self.service.close())
        self.start()

    @rule()
    def crash(self) -> None:
        """End without closing uploads: handles are dropped as they are."""
        self.run(self.service.expiry.stop())
        self.service.executor.close()
        self.service.store.close()
        self.start()

    @rule(later=st.sampled_from([0, 8 * 86400]))
    def sweep(self, later: int) -> None:
        now = clocks.steady() + later
        with mock.patch("tornado_app.clocks.steady", return_value=now):
            self.run(self.service.expiry.sweep())
        if later:
            self.accounts.clear()

    @rule(name=st.sampled_from(NAMES))
    @precondition(lambda self: self.files)
    def delete(self, name: str) -> None:
        refused = self.attempt(self.delete_file(name))
        assert (refused is None) == (self.files.pop(name, None) is not None)

    async def delete_file(self, name: str) -> None:
        self.service.store.delete(name)

    @rule(name=st.sampled_from(NAMES), data=pieces)
    def put_by_hand(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.with_name("by-hand").write_bytes(data)
        path.with_name("by-hand").replace(path)
        self.files[name] = data

    # -- what is always true

    @invariant()
    def files_are_what_they_should_be(self) -> None:
        assert shown(self.folder) == self.files
        for stat in self.service.store.listing():
            if stat.sha256 is not None:
                assert stat.sha256 == hashlib.sha256(self.files[stat.name]).hexdigest()

    @invariant()
    def uploads_stand_where_they_should(self) -> None:
        assert {upload.id for upload in self.service.uploads} == set(self.accounts)
        for id, account in self.accounts.items():
            upload = self.service.uploads.get(id, broken=True)
            assert bool(upload.broken) == account.broken
            assert upload.complete == account.complete, (id, account)
            if not account.parts or account.length is not None:
                assert (upload.offset, upload.record.length) == (len(account.bytes), account.length), (id, account)
            if upload.published is None and upload.offset:
                assert upload.staged.read(0, 100) == account.bytes
        making = sum(not (account.complete or account.broken) for account in self.accounts.values())
        assert self.service.uploads.registry.in_the_making == making

    def teardown(self) -> None:
        self.run(self.service.close())
        self.loop.close()
        shutil.rmtree(self.folder)


UploadsModel.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestUploadsModel = pytest.mark.slow(UploadsModel.TestCase)
