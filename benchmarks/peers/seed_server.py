"""The seed's transfers as one writes them first, in two plain Tornado handlers: seed_server.py PORT DIRECTORY.

No staging, no digest, no guard of the offset, the disk on the loop: by this is measured what all of that costs.
"""

import asyncio
import json
import os
import sys

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

CHUNK = 64 * 1024


class Download(RequestHandler):
    """A piece of a file as text."""

    def get(self) -> None:
        path = os.path.join(sys.argv[2], self.get_argument("file_name"))
        start = int(self.get_argument("bytes_read", "0"))
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(CHUNK)
        done = start + len(data)
        whole = done >= os.path.getsize(path)
        self.write(json.dumps({"file_content": data.decode(), "bytes_read": done, "is_complete": whole}))


class Upload(RequestHandler):
    """A piece of a file as bytes."""

    def post(self) -> None:
        path = os.path.join(sys.argv[2], self.get_argument("file_name"))
        start = int(self.get_argument("bytes_read", "0"))
        with open(path, "ab" if start else "wb") as file:
            file.write(self.request.body)
        self.write(json.dumps({"bytes_read": start + len(self.request.body)}))


async def serve(port: int) -> None:
    application = Application([(r"/download/?", Download), (r"/upload/?", Upload)], log_function=lambda handler: None)
    HTTPServer(application).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
