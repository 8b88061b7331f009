"""Open files of the fsspec file system, and errors as the built-in `open` raises them.

Uses fsspec and the transfers of a client; `holdfast.filesystem` uses it. Begin reading in `read_file.py`.
"""
