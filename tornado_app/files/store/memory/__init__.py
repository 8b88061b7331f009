"""The store in memory, for tests and demos: files and staged bytes end with the process.

It has no descriptors, joins no parts, lists no folders and can't be opened by another process, so whoever uses it shows
that services do without these powers. It may use the store's interface and names; `store` is where to begin.
"""
