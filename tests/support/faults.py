"""Files sent there and back over connections with random faults: for a test, and a thousand times for a benchmark."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import holdfast
from tests.support.proxy import CLEAN, Fault, FaultyProxy


def there_and_back(number: int, port: int, folder: Path) -> tuple[bool, int]:
    """One file up and down through a proxy with faults: whether it is the same on both ends, and how many there were.

    The same `number` has the same faults. Raises `HoldfastError` when it does not come through.
    """
    dice = random.Random(number)
    size = dice.choice([dice.randrange(100), dice.randrange(300 << 10), dice.randrange(3 << 20)])
    data, name = dice.randbytes(size), f"fault-{number}.bin"
    there, here = folder / "files" / name, folder / name
    retries = holdfast.Retries(attempts=100, base=0.005, cap=0.05)
    try:
        with (
            FaultyProxy(port, *random_faults(dice, size)) as line,
            holdfast.Client(line.url, timeout=0.5, retries=retries) as client,
        ):
            client.files.upload(data, name, segments=dice.choice([None, None, 3])).wait(60)
            client.files.download(name, here).wait(60)
            return there.read_bytes() == data == here.read_bytes(), line.happened
    finally:
        there.unlink(missing_ok=True)
        here.unlink(missing_ok=True)


def random_faults(dice: random.Random, size: int) -> list[Fault]:
    """Some faults for the transfer of `size` bytes and its small requests, each of any kind and at any place."""
    ways: list[Callable[[], Fault]] = [
        lambda: Fault(cut_up=dice.randrange(1, size + 500), reset=dice.random() < 0.5),
        lambda: Fault(cut_down=dice.randrange(1, size + 500), reset=dice.random() < 0.5),
        lambda: Fault(when=dice.choice([b"PATCH ", b"PUT ", b"POST "]), swallow_answer=True),
        lambda: Fault(when=dice.choice([b"PATCH ", b"PUT ", b"GET ", b"HEAD "]), duplicate=True),
        lambda: Fault(when=b"GET ", cut_down=dice.randrange(1, size + 500)),
        lambda: Fault(delay=dice.random() / 50),
        lambda: Fault(stall_down=dice.randrange(1, size + 500)) if dice.random() < 0.1 else CLEAN,
        lambda: Fault(stall_up=dice.randrange(1, size + 500)) if dice.random() < 0.1 else CLEAN,
    ]
    return [dice.choice(ways)() for _ in range(dice.randrange(1, 8))]
