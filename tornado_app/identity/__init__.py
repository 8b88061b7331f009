"""Identity of whoever sends a request: a principal, found by the head, before a byte of the body is kept.

`identity.py` is the interface; `local.py` admits by the token or the user of this machine, `hub/` asks a JupyterHub.
`users/` keeps what each user of a hub has apart. Begin reading in `principal.py`, then `identity.py`.
"""
