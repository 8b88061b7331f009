"""`/v1/uploads`: one handler, and the upload protocols whose responses it writes.

The handler alone knows Tornado. The protocols use `files.uploads` and `protocols`; they get a request and return a
response as values (`messages.py`). Begin reading in `protocol.py`, then `tus.py`; `choice.py` chooses by the headers.
"""
