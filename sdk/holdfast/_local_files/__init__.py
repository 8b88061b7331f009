"""Local side of transfers: sources, part files, folders, resume records. Everything here blocks.

Uses the operating system and `holdfast.errors`. Begin reading in `sources.py` and `part_file.py`.
"""
