"""tuspyserver as an ASGI application; its directory is in PEER_FOLDER."""

import os

from fastapi import FastAPI
from tuspyserver import create_tus_router

app = FastAPI()
app.include_router(create_tus_router(files_dir=os.environ["PEER_FOLDER"], prefix="files"))
