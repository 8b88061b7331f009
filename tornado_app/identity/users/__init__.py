"""Users who are kept apart: each has services and a file store of its own, in a folder of its own.

Uses the services of files and the work context. Begin reading in `services.py`; `stores.py` has the folders.
"""
