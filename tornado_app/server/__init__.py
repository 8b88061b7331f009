"""The socket level: listening sockets, peers, long bodies, sendfile.

Uses Tornado, the operating system and the file interfaces; knows no handler and no service. Begin reading in
`long_bodies.py` (bytes in) and `sendfile.py` (bytes out).
"""
