"""Records beside those of digests: names of files by content, marks of those without a SHA-256, CRC-32 for zips.

Uses small files of the reserved folder. Begin reading in `content_index.py`, then `pending_marks.py`.
"""
