"""Folders as archives over HTTP: `handler.py` reads requests and answers them.

Uses the archives service and the archive sender of `server/`.
"""
