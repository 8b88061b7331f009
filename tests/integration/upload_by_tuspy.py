"""Uploads a file by tuspy: upload_by_tuspy.py ENDPOINT FILE {"name", "chunk_size", "retries", "storage"}

An upload of the same file that an earlier process began is taken up. Prints the offset that it began at.
"""

import json
import sys

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

endpoint, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
uploader = TusClient(endpoint).uploader(
    file_path=path,
    chunk_size=options["chunk_size"],
    retries=options["retries"],
    retry_delay=0,
    store_url=True,
    url_storage=FileStorage(options["storage"]),
    metadata={"filename": options["name"]},
)
print(uploader.offset)
uploader.upload()
