"""Folders as archives: planned and read for downloads, and received as a tar whose members become files.

Uses the store's interface, the uploads service and `protocols/archives/`. Begin reading in `service.py`.
"""
