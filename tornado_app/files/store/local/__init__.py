"""The store on a local file system: published files in a directory, staged bytes in its reserved folder.

Uses the store interface and the operating system. Begin reading in `published.py`, then `staged.py`.
"""
