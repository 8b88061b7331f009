"""Staged bytes on a local disk: `uploads/<id>/` with `info`, `data`, and marks that make a crash harmless.

| file | says |
| --- | --- |
| `info` | the record of the service; replaced whole |
| `data` | the bytes; its size is the offset |
| `blocks`, `boot` | the digests of the blocks of `data`; see `blocks/staged_blocks.py` |
| `trial` | the offset that a crash goes back to while a transaction is open |
| `published` | what `data` was about to become; if `data` is gone it has become that |

A directory appears under its id by a rename once it is whole, and goes by a rename before it is emptied.

It may use the root, the staging folder and the digests. `loading` is where to begin.
"""
