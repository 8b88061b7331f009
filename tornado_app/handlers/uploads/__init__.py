"""`/v1/uploads`: one handler and the upload protocols that it speaks, chosen by the request's own headers.

Uses `files.uploads` and `protocols`. Begin reading in `handler.py`, then `protocol.py`.
"""
