"""Files: names, published files, uploads, and the threads that touch the disk for them.

Uses `protocols` and `problems`; knows no handler and no process. Begin reading in `service.py`, then
`store/interface.py`.
"""
