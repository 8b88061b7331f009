"""SHA-256 of files that were published without one, made off the path of requests, one piece of one file at a time.

Uses the store's interface and the threads of the files service; knows no handler. Begin reading in `service.py`.
"""
