"""Endpoints of block digests: of a file, and of an upload whose wrong blocks are then replaced.

Uses the services of files and uploads. Begin reading in `files.py`.
"""
