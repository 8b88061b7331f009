"""HTTP, tus and form syntax as pure functions: no sockets, no files, no Tornado (sans-IO).

Uses nothing of this project. Each module names its standard; begin with the one whose standard you know.
"""
