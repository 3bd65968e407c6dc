#!/usr/bin/env python3
"""An auth service: tells tenantfs, or whoever else asks, whose an API key is.

    auth.py --keys FILE [--host ADDRESS] [--port PORT] [--expires-in SECONDS]

    GET /validate, Authorization: Bearer KEY    200 {"user_id": "alice"}, with "expires_in" if wanted; else 401

FILE is a static keys file of tenantfs, {"keys": [{"sha256": HASH, "user_id": "alice"}]}, and is read again when it
changes; `tenantfs key-hash` prints a key's hash. Once it listens it prints its URL. It needs the packages in
requirements.txt beside it, and speaks plain HTTP: other hosts are to reach it through something that adds TLS.
"""

import argparse
import hashlib
import json
import logging
import os
import socket
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header, HTTPException

log = logging.getLogger("uvicorn.error")


class Keys:
    """Whose each key is, as the file at `path` says now. Keys are known by their hashes alone."""

    def __init__(self, path):
        self.path = path
        self.version = None
        self.users = {}
        self.refresh()

    def refresh(self):
        """Reads the file if it is not the one that was read last. One that cannot be read is an OSError or ValueError."""
        with open(self.path, encoding="utf-8") as file:
            stat = os.fstat(file.fileno())
            version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime_ns)
            if version == self.version:
                return
            try:
                entries = json.load(file)["keys"]
                self.users = {entry["sha256"].lower(): entry["user_id"] for entry in entries}
            except (AttributeError, KeyError, TypeError) as error:
                raise ValueError(f"not a static keys file: {error!r}") from None
            self.version = version

    def user(self, key):
        # What is looked up is a hash of the secret: how long that takes tells nothing of the key.
        return self.users.get(hashlib.sha256(key.encode()).hexdigest())


def application(keys, expires_in=None):
    # No pages of documentation: they would be the only answers that need no key.
    app = FastAPI(title="auth service", openapi_url=None)

    @app.get("/validate")
    async def validate(authorization: Annotated[str, Header()] = ""):
        try:
            keys.refresh()
        except (OSError, ValueError) as error:
            # Neither a yes nor a no: a broken file must not look like a revoked key.
            log.error("the keys file cannot be read: %s", error)
            raise HTTPException(503) from None
        scheme, _, key = authorization.partition(" ")
        user_id = keys.user(key) if scheme.lower() == "bearer" else None
        if user_id is None:
            log.info("refused a key")
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        log.info("accepted a key of %s", ascii(user_id))
        return {"user_id": user_id} | ({} if expires_in is None else {"expires_in": expires_in})

    return app


def main():
    parser = argparse.ArgumentParser(description="Tells whose an API key is, from a static keys file of tenantfs.")
    parser.add_argument("--keys", metavar="FILE", required=True, help="the static keys file")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="an IPv4 address of this host (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8089, help="0: any free one (default: %(default)s)")
    parser.add_argument("--expires-in", type=int, metavar="SECONDS", help="how long an answer is good for")
    args = parser.parse_args()

    try:
        keys = Keys(args.keys)
        listener = socket.create_server((args.host, args.port))
    except (OSError, ValueError) as error:
        parser.exit(1, f"auth.py: {error}\n")
    # The log of requests has their queries, in which a confused client might send its key: it is off.
    config = uvicorn.Config(application(keys, args.expires_in), access_log=False)
    host, port = listener.getsockname()[:2]
    print(f"http://{host}:{port}/validate", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
