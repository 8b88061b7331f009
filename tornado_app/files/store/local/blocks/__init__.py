"""Blocks on a local disk: staged bytes that are written by blocks, and copies that the file system makes.

Uses the open files directory and the operating system. Begin reading in `block_data.py`.
"""
