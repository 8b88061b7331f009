"""Knowledge of an upload about its source: the record of an earlier run, and the blocks that differ on the server."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import digests
from holdfast._local_files.records import PartUpload
from holdfast._local_files.sources import FileSource
from holdfast._transfers.job import TransferContext
from holdfast._transfers.pace import Throttle
from holdfast._transfers.upload.state import UploadState, ranges_of
from holdfast.errors import LocalChanged
from holdfast.plans import Do, Plan, Retries

MIB = 1 << 20
Make = Callable[[int], Path]


def state_of(path: Path, *, overwrite: bool = False, delta: bool = False) -> UploadState:
    """Begin an upload of a file, as a process does."""
    state = UploadState(
        TransferContext("http://127.0.0.1:1", Retries()),
        FileSource(path),
        path.name,
        overwrite=overwrite,
        connections=None,
        throttle=Throttle(None),
        delta=delta,
        within="",
        on_progress=lambda: None,
    )
    state.check_local()
    return state


def carried_out(plan: Plan[object]) -> object:
    """Carry out a plan of blocking functions alone."""
    value: object = None
    while True:
        try:
            effect = plan.send(value)
        except StopIteration as end:
            return end.value
        assert isinstance(effect, Do)
        value = effect.function()


def interrupted(path: Path) -> UploadState:
    """An upload whose process has ended after it had read everything."""
    state = state_of(path)
    assert state.begin(restart=False) is None
    state.record.parts = [PartUpload(0, state.size, "id")]
    carried_out(state.hash_blocks())
    carried_out(state.save())
    state.close()
    return state


def edit(path: Path, data: bytes) -> None:
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))


def test_ranges_of_blocks() -> None:
    assert ranges_of([]) == []
    assert ranges_of([0, 1, 2, 5, 7, 8]) == [(0, 3), (5, 6), (7, 9)]
    assert ranges_of([0, 1, 2, 5, 7, 8], 2) == [(0, 2), (2, 3), (5, 6), (7, 9)]


def test_another_process_gets_the_record_and_the_digests(make: Make) -> None:
    path = make(3 * MIB)
    before = interrupted(path)
    state = state_of(path)
    assert state.begin(restart=False) is None
    assert [part.id for part in state.record.parts] == ["id"]
    assert state.earlier == before.digests.blocks()
    assert not state.is_doubtful
    state.close()


@pytest.mark.parametrize("options", [{"restart": True}, {"overwrite": True}])
def test_a_restart_or_another_intent_forgets_it_and_names_what_to_delete(make: Make, options: dict[str, bool]) -> None:
    path = make(3 * MIB)
    interrupted(path)
    state = state_of(path, overwrite=options.get("overwrite", False))
    stale = state.begin(restart=options.get("restart", False))
    assert stale is not None
    assert [part.id for part in stale.parts] == ["id"]
    assert (state.record.parts, state.earlier) == ([], b"")
    state.close()


def test_another_size_is_a_change_that_a_delta_begins_anew_with(make: Make) -> None:
    path = make(3 * MIB)
    interrupted(path)
    edit(path, path.read_bytes() + b"more")
    state = state_of(path)
    with pytest.raises(LocalChanged, match="restart=True"):
        state.begin(restart=False)
    state.close()
    state = state_of(path, delta=True)
    assert state.begin(restart=False) is not None
    assert state.record.size == 3 * MIB + 4
    state.close()


def test_blocks_that_differ_are_told_from_a_file_that_has_changed(make: Make) -> None:
    path = make(3 * MIB)
    before = interrupted(path).digests.blocks()
    flipped = bytes(32 * [1]) + before[32:]
    # The file is as it was: the server has a wrong block.
    state = state_of(path)
    state.begin(restart=False)
    carried_out(state.hash_blocks())
    assert state.wrong_blocks(before, range(3)) == []
    assert state.wrong_blocks(flipped, range(3)) == [0]
    assert state.wrong_blocks(digests.ABSENT + before[32:], range(3)) == []
    state.close()
    # It was another one when the blocks were sent.
    edit(path, random.Random(7).randbytes(2 * MIB) + path.read_bytes()[2 * MIB :])
    state = state_of(path)
    state.begin(restart=False)
    assert state.is_doubtful
    carried_out(state.hash_blocks())
    with pytest.raises(LocalChanged):
        state.wrong_blocks(before, range(3))
    assert state.wrong_blocks(before, range(2, 3)) == []
    state.close()
    state = state_of(path)
    state.begin(restart=False)
    assert state.earlier == before, "a run that was refused leaves what was sent before it"
    state.close()
    state = state_of(path, delta=True)
    state.begin(restart=False)
    carried_out(state.hash_blocks())
    assert state.wrong_blocks(before, range(3)) == [0, 1]
    carried_out(state.trust_local())
    assert not state.is_doubtful
    state.close()
    state = state_of(path)
    state.begin(restart=False)
    assert not state.is_doubtful
    state.close()


def test_a_file_that_changes_between_two_runs_is_read_again(make: Make) -> None:
    path = make(2 * MIB)
    state = state_of(path)
    state.begin(restart=False)
    carried_out(state.save())
    carried_out(state.hash_blocks())
    before = state.digests.blocks()
    state.close()
    edit(path, bytes(2 * MIB))
    state.begin(restart=False)
    assert state.is_doubtful
    assert state.earlier == before
    carried_out(state.hash_blocks())
    assert state.digests.result() == digests.of_file(bytes(2 * MIB))
    state.close()


def test_nothing_is_left_after_the_end(make: Make, state_dir: Path) -> None:
    path = make(MIB)
    state = interrupted(path)
    assert len(os.listdir(state_dir / "transfers")) >= 2
    state.begin(restart=False)
    state.ended = True
    state.close()
    assert os.listdir(state_dir / "transfers") == []
