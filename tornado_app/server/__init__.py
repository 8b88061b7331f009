"""Everything below the meaning of HTTP: sockets, peers, long bodies in turns, sendfile.

Uses Tornado, the operating system and the file interfaces; knows no handler and no service. Begin reading in
`long_bodies.py` (bytes in) and `sendfile.py` (bytes out).
"""
