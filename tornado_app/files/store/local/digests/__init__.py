"""Digests of the local store that are still to be made. Begin reading in `pending_marks.py`."""
