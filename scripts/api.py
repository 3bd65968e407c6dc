#!/usr/bin/env python3
"""A web service: each user's schedules over HTTP, on the volume that the mounts show.

    api.py --volume DIR --keys FILE [--layout LAYOUT] [--host ADDRESS] [--port PORT]

    POST   /schedules         201, {"id": "…"}       the body is the record
    GET    /schedules         200, ["…", "…"]
    GET    /schedules/{id}    200, the record without its secret
    DELETE /schedules/{id}    204

Every request needs Authorization: Bearer KEY; FILE says whose a key is, as it does for auth.py. Errors are {"detail": "…"}.
Once it listens it prints its URL. It knows nothing of tenantfs, runs as the account that owns the volume, and speaks plain
HTTP. It needs the packages in requirements.txt beside it.
"""

import argparse
import json
import logging
import socket
import uuid
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from auth import Keys
from service import LAYOUTS, RecordNotFound, RecordService

log = logging.getLogger("uvicorn.error")

RESOURCE = "schedules"
# The member that no answer has. Whoever can seal may store it: this service cannot, and does not store it in plain text.
SECRET = "api_key"
# In bytes, as tenantfs has it.
MAX_RECORD = 16 << 20


def parse(body):
    """The record in a request's body; what is wrong with it is a ValueError."""
    try:
        record = json.loads(body)
        # Python reads, and would write, what is JSON to nobody else: NaN, halves of surrogate pairs.
        json.dumps(record, allow_nan=False, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    except (RecursionError, ValueError):
        raise ValueError("the body is not JSON that everybody can read") from None
    if not isinstance(record, dict):
        raise ValueError("the body is not a JSON object")
    if record.get(SECRET) is not None:
        raise ValueError(f"the member {SECRET!r} is a secret, which this service cannot seal: remove the member")
    return record


def application(records, keys):
    # No pages of documentation: they would be the only answers that need no key.
    app = FastAPI(title="records service", openapi_url=None)

    async def user(authorization: Annotated[str, Header()] = ""):
        try:
            keys.refresh()
        except (OSError, ValueError) as error:
            log.error("the keys file cannot be read: %s", error)
            raise HTTPException(503) from None
        scheme, _, key = authorization.partition(" ")
        user_id = keys.user(key) if scheme.lower() == "bearer" else None
        if user_id is None:
            detail = "a valid API key is needed: send the header Authorization: Bearer KEY"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
        return user_id

    User = Annotated[str, Depends(user)]

    # After `user`: nothing is read of those who are not let in.
    async def body(request: Request, _: User):
        received = bytearray()
        async for chunk in request.stream():
            received += chunk
            if len(received) > MAX_RECORD:
                raise HTTPException(413, f"the body is larger than {MAX_RECORD} bytes")
        return bytes(received)

    # Not async: FastAPI runs these on threads, where they may wait for the disk.
    @app.post("/schedules", status_code=201)
    def create(user_id: User, received: Annotated[bytes, Depends(body)], response: Response):
        try:
            record = parse(received)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        record_id = uuid.uuid4().hex
        records.save(user_id, RESOURCE, record_id, record)
        response.headers["Location"] = f"/schedules/{record_id}"
        return {"id": record_id}

    @app.get("/schedules")
    def list_all(user_id: User):
        return records.list(user_id, RESOURCE)

    @app.get("/schedules/{record_id}")
    def load(user_id: User, record_id: str):
        record = found(records.load, user_id, record_id)
        return {name: value for name, value in record.items() if name != SECRET}

    @app.delete("/schedules/{record_id}", status_code=204)
    def delete(user_id: User, record_id: str):
        found(records.delete, user_id, record_id)

    return app


def found(operation, user_id, record_id):
    """What the operation returns; 404 when there is no such record of that user."""
    try:
        return operation(user_id, RESOURCE, record_id)
    except (RecordNotFound, ValueError):
        raise HTTPException(404, "there is no such record") from None


def main():
    parser = argparse.ArgumentParser(description="Serves each user's schedules over HTTP.")
    parser.add_argument("--volume", metavar="DIR", required=True, help="the volume's root directory")
    parser.add_argument("--layout", choices=LAYOUTS, default="resource-first")
    parser.add_argument("--keys", metavar="FILE", required=True, help="the static keys file")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="an IPv4 address of this host (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8090, help="0: any free one (default: %(default)s)")
    args = parser.parse_args()

    try:
        keys = Keys(args.keys)
        listener = socket.create_server((args.host, args.port))
    except (OSError, ValueError) as error:
        parser.exit(1, f"api.py: {error}\n")
    # The log of requests has their queries, in which a confused client might send its key: it is off.
    config = uvicorn.Config(application(RecordService(args.volume, args.layout), keys), access_log=False)
    host, port = listener.getsockname()[:2]
    print(f"http://{host}:{port}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
