"""The work types that come with the server.

Uses `holdfast.work` as any author does, `protocols`, and `processes.supervision` for programs. Begin reading in
`manifest.py`.
"""
