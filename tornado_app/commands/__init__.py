"""Command lines as settings write them, and which of their arguments a program would run as code.

Pure: uses nothing. Begin reading in `command_line.py`.
"""
