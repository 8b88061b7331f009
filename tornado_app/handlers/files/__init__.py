"""`/v1/files`: published files, by the standard methods and headers of HTTP (RFC 9110, RFC 9530).

It may use the services and protocols. `download` is shared with archives. Begin reading in `reading`.
"""
