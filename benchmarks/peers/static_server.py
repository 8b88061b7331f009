"""Tornado's StaticFileHandler, and a handler that does nothing: static_server.py PORT DIRECTORY."""

import asyncio
import sys

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler, StaticFileHandler


class Nothing(RequestHandler):
    """Takes a PATCH and answers 204."""

    def patch(self) -> None:
        self.set_status(204)


async def serve(port: int, folder: str) -> None:
    application = Application(
        [(r"/files/(.*)", StaticFileHandler, {"path": folder}), (r"/nothing", Nothing)],
        log_function=lambda handler: None,
    )
    HTTPServer(application).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
