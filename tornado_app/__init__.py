"""The server: `python -m tornado_app`.

Arrows run one way: `app` and `routes` compose it, `handlers` translate HTTP, the services in `files` and `processes`
decide, `protocols` are pure. Of the SDK it imports `holdfast.wire` and `holdfast.work`. Begin reading in `app.py`,
then `routes.py`.
"""
