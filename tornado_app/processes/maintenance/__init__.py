"""Upkeep of processes beside running them: the server's lease, recovery, kills, deadlines, disk space, staged files.

May use the journal and the runner; nothing here knows HTTP. Begin reading in `heartbeat.py`.
"""
