"""Published files for HTTP: answers to GET and HEAD, PUT and DELETE under preconditions, and their block digests.

It may use the store's interface, uploads and `protocols`. `service` is where to begin; `decisions` is pure.
"""
