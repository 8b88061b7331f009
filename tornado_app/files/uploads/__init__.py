"""Uploads: created, written by one request at a time, hashed, published; joined, expired and watched.

Uses the store interface. Begin reading in `service.py`, then `lease/interface.py` and `writer.py`.
"""
