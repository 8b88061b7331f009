"""Archives as bytes: uncompressed zip and tar archives whose layout is known in advance, and a tar reader. No I/O.

Begin reading in `layout.py`; `zip_format.py` and `tar_format.py` write, `tar_reader.py` reads.
"""
