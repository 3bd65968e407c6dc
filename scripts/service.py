#!/usr/bin/env python3
"""A web service's side of a volume: saves, loads and lists its users' JSON records.

It knows nothing of tenantfs, except for where a migration takes its records (--follow). The tests and the demonstration run it beside live mounts; as a module it is the class
RecordService, as a command it is

    service.py --volume DIR --layout LAYOUT save USER RESOURCE ID < record.json
    service.py --volume DIR --layout LAYOUT load USER RESOURCE ID
    service.py --volume DIR --layout LAYOUT list USER RESOURCE
    service.py --volume DIR --layout LAYOUT loop USER RESOURCE ID SECONDS
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

LAYOUTS = ("resource-first", "user-first")


class RecordNotFound(LookupError):
    """There is no such record, it is somebody else's, or no JSON object: callers are not told which."""


class RecordService:
    """The records of all users on the volume in the directory `volume`.

    `in_place` rewrites records where they are instead of renaming a new file over them. Readers can then meet a half
    written record; there are services that do so, and the mount has to live with them.
    """

    def __init__(self, volume, layout="resource-first", in_place=False):
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}: use {' or '.join(LAYOUTS)}")
        self.volume = Path(volume)
        self.layout = layout
        self.in_place = in_place

    def directory(self, user_id, resource):
        user_hash = hashlib.sha256(user_id.encode()).hexdigest()[:16]
        if self.layout == "resource-first":
            return self.volume / resource / user_hash
        return self.volume / "users" / user_hash / resource

    def path(self, user_id, resource, record_id):
        # Whatever the mount's users call their records, except what leads elsewhere.
        if not re.fullmatch(rb"[^/\0]{1,250}", record_id.encode()):
            raise ValueError(f"{record_id!r} cannot be a record's id")
        return self.directory(user_id, resource) / f"{record_id}.json"

    def save(self, user_id, resource, record_id, record):
        """Stores the record with its owner in it. Members that the service does not know are kept."""
        path = self.path(user_id, resource, record_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {**record, "user_id": user_id}
        if self.in_place:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(record, file, indent=2)
            return
        # Readers glob("*.json"): the temporary name must not match.
        temporary = path.with_name(f".{record_id}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(record, file, indent=2)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def load(self, user_id, resource, record_id):
        return self._read(self.path(user_id, resource, record_id), user_id)

    def delete(self, user_id, resource, record_id):
        path = self.path(user_id, resource, record_id)
        self._read(path, user_id)
        try:
            path.unlink()
        except FileNotFoundError:
            raise RecordNotFound(path.stem) from None

    def _read(self, path, user_id):
        try:
            with open(path, encoding="utf-8") as file:
                record = json.load(file)
        except (FileNotFoundError, IsADirectoryError, ValueError):
            raise RecordNotFound(path.stem) from None
        if not isinstance(record, dict) or record.get("user_id") != user_id:
            raise RecordNotFound(path.stem)
        return record

    def list(self, user_id, resource):
        """The ids of the user's records, sorted."""
        ids = []
        for path in self.directory(user_id, resource).glob("*.json"):
            try:
                self._read(path, user_id)
            except RecordNotFound:
                continue
            ids.append(path.stem)
        return sorted(ids)


class FollowingService(RecordService):
    """A service that goes on while its volume is migrated: `.tenantfs-layout` says where records are, and from where they come.

    It writes to the new place, and reads there and then in the old one. A directory can move away under it: then it looks
    again.
    """

    ATTEMPTS = 100

    def __init__(self, volume, layout="resource-first", in_place=False):
        super().__init__(volume, layout, in_place)
        self.usual = layout

    def _layouts(self):
        try:
            mark = json.loads((self.volume / ".tenantfs-layout").read_text())
        except FileNotFoundError:
            return [self.usual]
        return [mark["layout"], *([mark["from"], mark["layout"]] if "from" in mark else [])]

    def save(self, user_id, resource, record_id, record):
        for _ in range(self.ATTEMPTS):
            self.layout = self._layouts()[0]
            try:
                return super().save(user_id, resource, record_id, record)
            except FileNotFoundError:
                continue
        raise RecordNotFound(record_id)

    def load(self, user_id, resource, record_id):
        for layout in self._layouts():
            self.layout = layout
            try:
                return super().load(user_id, resource, record_id)
            except RecordNotFound:
                continue
        raise RecordNotFound(record_id)


def revision(number):
    """A record by which a reader can tell whether it is whole: both ends and the middle carry one number."""
    return {
        "revision": number,
        "api_key": "sk-loop",
        "rows": [number] * (1 + number * 997 % 4000),
        "end": number,
    }


def is_whole(record):
    number = record["revision"]
    return record["end"] == number and set(record["rows"]) == {number}


def save_for(service, user_id, resource, record_id, seconds):
    """Saves one revision after another for some seconds; returns how many."""
    number = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        number += 1
        service.save(user_id, resource, record_id, revision(number))
    return number


def main():
    parser = argparse.ArgumentParser(description="A web service's side of a volume of JSON records.")
    parser.add_argument("--volume", required=True)
    parser.add_argument("--layout", choices=LAYOUTS, default="resource-first")
    parser.add_argument("--follow", action="store_true", help="go where .tenantfs-layout says that the records are")
    parser.add_argument("--in-place", action="store_true", help="rewrite records where they are")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, operands, text in [
        ("save", ["user", "resource", "id"], "store the JSON object on standard input"),
        ("load", ["user", "resource", "id"], "print a record"),
        ("list", ["user", "resource"], "print the ids of a user's records"),
        ("loop", ["user", "resource", "id", "seconds"], "save new revisions as fast as possible; print how many"),
    ]:
        command = commands.add_parser(name, help=text)
        for operand in operands:
            command.add_argument(operand, type=float if operand == "seconds" else str)
    args = parser.parse_args()

    service = (FollowingService if args.follow else RecordService)(args.volume, args.layout, args.in_place)
    try:
        if args.command == "save":
            service.save(args.user, args.resource, args.id, json.load(sys.stdin))
        elif args.command == "load":
            print(json.dumps(service.load(args.user, args.resource, args.id), indent=2))
        elif args.command == "list":
            print("".join(f"{record_id}\n" for record_id in service.list(args.user, args.resource)), end="")
        else:
            print(save_for(service, args.user, args.resource, args.id, args.seconds))
    except RecordNotFound as absent:
        sys.exit(f"service.py: no record {absent}")
    except ValueError as error:
        sys.exit(f"service.py: {error}")


if __name__ == "__main__":
    main()
