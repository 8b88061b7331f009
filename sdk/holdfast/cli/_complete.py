"""What the shell is offered: ids, work types and names from the server, if it answers quickly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import click

from holdfast.client import Client
from holdfast.errors import HoldfastError

MOST = 200


def _offer(find: Callable[[Client, str], Iterable[str]]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        root = context.find_root().params
        try:
            with Client(root.get("url"), root.get("token"), timeout=1, retries=0) as client:
                return [name for name in islice(find(client, incomplete), MOST) if name.startswith(incomplete)]
        except (HoldfastError, ValueError):
            return []  # a shell that completes must not say anything

    return complete


process_ids = _offer(lambda client, start: (process.id for process in client.processes.list(page_size=MOST)))
work_types = _offer(lambda client, start: (work.name for work in client.work_types()))
file_names = _offer(lambda client, start: (file.name for file in client.files.list(start, page_size=MOST)))
