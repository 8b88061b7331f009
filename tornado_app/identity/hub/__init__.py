"""Admission by a JupyterHub: tokens in Authorization, and browsers by OAuth and a cookie.

`admission.py` decides, `client.py` asks the hub, `sessions.py` signs what browsers keep. Begin reading in
`admission.py`.
"""
