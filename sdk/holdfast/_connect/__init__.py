"""`connect()`: finds the server that a person in a notebook means, or starts one.

A server proves which one it is before anything of the user is sent to it. Uses the clients and `_environment`. Begin
reading in `finding.py`.
"""
