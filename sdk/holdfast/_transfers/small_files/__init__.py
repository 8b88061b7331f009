"""Small files of a folder's transfer, many in one request: as tar archives. Without them each file is one by itself.

Begin reading in `upload.py` and `download.py`; `tar.py` does no I/O.
"""
