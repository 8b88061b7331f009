"""One request and how to read its answer, without I/O: the call, the table of endpoints, server-sent events.

Uses `holdfast.errors`. Begin reading in `call.py`; `holdfast.calls` has all of them.
"""
