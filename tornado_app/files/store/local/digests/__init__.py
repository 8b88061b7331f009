"""Records beside those of digests: names of files by content, and marks of those without a SHA-256.

Uses small files of the reserved folder. Begin reading in `content_index.py`, then `pending_marks.py`.
"""
