"""Uploads and downloads as resumable plans, and the handles that run them in the background.

Uses `holdfast.plans`, `holdfast.calls` and `_local_files`; httpx is not used here. Begin reading in `job.py`, then
`download.py` and `upload.py`.
"""
