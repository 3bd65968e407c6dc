#!/usr/bin/env python3
"""An auth service as tenantfs asks one: says whose an API key is.

    scripts/auth.py --keys FILE [--port PORT] [--expires-in SECONDS]

FILE has the hashes of the keys, as `tenantfs key-hash` prints them, and is read again when it changes:

    {"keys": [{"sha256": "d0c04f4b…", "user_id": "alice"}]}

Needs FastAPI and uvicorn: scripts/requirements.txt. Listens on this host only.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer


class Keys:
    """The users by the hashes of their keys, as the file has them now."""

    def __init__(self, path):
        self.path, self.version, self.users = path, None, {}

    def user(self, key):
        stat = os.stat(self.path)
        version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if version != self.version:
            entries = json.loads(self.path.read_text())["keys"]
            self.users = {entry["sha256"].lower(): entry["user_id"] for entry in entries}
            self.version = version
        return self.users.get(hashlib.sha256(key.encode()).hexdigest())


def service(keys, expires_in):
    app = FastAPI(title="An auth service for tenantfs")
    bearer = HTTPBearer()

    @app.get("/validate")
    def validate(sent: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]):
        """Whose the key is that was sent as bearer token."""
        user = keys.user(sent.credentials)
        if user is None:
            raise HTTPException(401, "no such key", {"WWW-Authenticate": "Bearer"})
        return {"user_id": user} | ({"expires_in": expires_in} if expires_in else {})

    return app


def main():
    parser = argparse.ArgumentParser(description="Says whose an API key is.")
    parser.add_argument("--keys", type=Path, required=True, help="file of key hashes and user ids")
    parser.add_argument("--port", type=int, default=8089)
    parser.add_argument("--expires-in", type=int, help="how long an answer is good, in seconds")
    args = parser.parse_args()
    keys = Keys(args.keys)
    keys.user("")
    uvicorn.run(service(keys, args.expires_in), host="127.0.0.1", port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
