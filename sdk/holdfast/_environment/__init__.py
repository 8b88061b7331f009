"""Environment of this Python: installed extras, Jupyter, servers of the same user on this machine.

Uses nothing of the client. Begin reading in `known_servers.py`.
"""
