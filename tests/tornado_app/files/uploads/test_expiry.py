"""Uploads are kept for as long as servers have seen them idle, whatever the wall clock says meanwhile."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import pytest

from tests.support.files import file_service
from tornado_app import clocks
from tornado_app.clocks import FASTEST, AgeClock
from tornado_app.files.service import FileService
from tornado_app.files.uploads.upload import Upload, UploadRecord
from tornado_app.settings import Settings

DAY = 86400.0
KEPT = 7 * DAY


class Times:
    """The two clocks of a machine, in the hands of a test."""

    def __init__(self) -> None:
        self.wall, self.steady = time.time(), 1000.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Iterator[Times]:
    times = Times()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: times.wall)
        patch.setattr(clocks, "steady", lambda: times.steady)
        yield times


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, upload_expiry=KEPT, reserve_space=0)


async def opened(settings: Settings) -> FileService:
    service = file_service(settings)
    await service.open()
    return service


async def begun(service: FileService, name: str) -> Upload:
    """An upload with a byte in it."""
    upload = await service.uploads.create(UploadRecord("tus", name, time.time(), length=9))
    writer = await service.uploads.write(upload, 0)
    writer.write(b"x")
    await service.uploads.finish(writer)
    return upload


async def left(service: FileService) -> set[str | None]:
    await service.expiry.sweep()
    return {upload.record.name for upload in service.uploads}


@pytest.mark.parametrize("leap", [35 * DAY, 20_000 * DAY, -3600.0, -35 * DAY])
async def test_a_leap_of_the_wall_clock_removes_nothing_and_keeps_nothing_longer(
    settings: Settings, times: Times, leap: float
) -> None:
    service = await opened(settings)
    before = await begun(service, "before")
    promised = service.uploads.expires(before) - times.wall
    times.wall += leap
    times.pass_(60)
    assert await left(service) == {"before"}
    assert service.uploads.expires(before) - times.wall == pytest.approx(promised - 60, abs=1)
    await begun(service, "meanwhile")
    times.wall -= leap
    assert await left(service) == {"before", "meanwhile"}
    times.pass_(KEPT - 30)
    assert await left(service) == {"meanwhile"}
    times.pass_(40)
    assert await left(service) == set()
    await service.close()


@pytest.mark.parametrize("leap", [35 * DAY, -35 * DAY, -20_000 * DAY])
async def test_a_clock_that_is_wrong_while_the_server_starts_removes_nothing(
    settings: Settings, times: Times, leap: float
) -> None:
    service = await opened(settings)
    await begun(service, "before")
    await service.close()
    times.wall += leap
    service = await opened(settings)
    assert await left(service) == {"before"}
    times.pass_(60)
    assert await left(service) == {"before"}
    times.wall -= leap  # the network has set the time
    assert await left(service) == {"before"}
    times.pass_(DAY)
    assert await left(service) == {"before"}
    times.pass_(6 * DAY)
    assert await left(service) == set()
    await service.close()


async def test_what_passed_while_no_server_ran_counts_soon(settings: Settings, times: Times) -> None:
    service = await opened(settings)
    upload = await begun(service, "before")
    promised = service.uploads.expires(upload)
    await service.close()
    times.pass_(5 * DAY)
    service = await opened(settings)
    (upload,) = service.uploads
    assert service.uploads.expires(upload) == pytest.approx(promised, abs=1), "the promise of the earlier server stands"
    times.pass_(3 * DAY)
    assert await left(service) == set()
    await service.close()


async def test_uploads_of_a_version_that_noted_no_time_go_within_hours(settings: Settings, times: Times) -> None:
    service = await opened(settings)
    await begun(service, "before")
    await service.close()
    (settings.files_dir / ".holdfast/clock").write_text("spoilt")
    times.pass_(30 * DAY)
    service = await opened(settings)
    assert await left(service) == {"before"}
    times.pass_(KEPT / FASTEST + 60)
    assert await left(service) == set()
    await service.close()


async def test_a_full_disk_does_not_keep_uploads_from_being_swept(
    settings: Settings, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await opened(settings)
    await begun(service, "before")

    def full(now: float) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.store, "note_time", full)
    times.pass_(KEPT + 60)
    assert await left(service) == set()
    await service.close()


def test_the_clock_never_goes_back_and_never_stands(times: Times) -> None:
    clock = AgeClock(times.wall - 10 * DAY)
    last = clock.now()
    for leap in (0, DAY, -2 * DAY, 400 * DAY, -399 * DAY, 0, 0):
        times.wall += leap
        times.pass_(10)
        now = clock.now()
        assert 10 <= now - last <= 10 * FASTEST
        last = now
