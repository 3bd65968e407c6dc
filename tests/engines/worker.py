"""Saves, reads, lists and removes a few records in the current directory, and prints what it did: a line of JSON for each
operation, with the times of its begin and end by this machine's one clock.

    worker.py BY NAME SECONDS SEED RECORDS HOW      # HOW: user | reader | saver | service | last
"""

import json
import os
import random
import sys
import time

by, name, seconds, seed, records, how = sys.argv[1:7]
chance = random.Random(seed)
names = ["race-%d" % number for number in range(int(records))]
sizes = [10, 3_000, 70_000]
events = []


def noted(record, what, act):
    event = {"by": by, "record": record, "begin": time.monotonic()}
    event["what"], event["value"] = what
    try:
        changed = act()
        if changed:
            event["what"], event["value"] = changed
    except FileNotFoundError:
        event["what"] = "absent"
    except OSError as error:
        event["errno"] = error.errno
    event["end"] = time.monotonic()
    events.append(event)


def write(path, text):
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640)
    try:
        os.write(file, text)
    finally:
        os.close(file)


def save(record, number, in_place):
    value = "%s-%d" % (name, number)
    text = {"value": value, "pad": name[0] * sizes[number % 3]}
    if how == "service":
        text["user_id"] = "alice"
    text = json.dumps(text).encode()

    def act():
        if in_place:
            return write(record + ".json", text)
        temporary = "%s.%s-new" % (record, name)
        write(temporary, text)
        os.rename(temporary, record + ".json")

    noted(record, ("saved", value), act)
    # A save that says that something is not there was not made.
    if events[-1]["what"] == "absent":
        events[-1].update(what="saved", errno=2)


def read(record):
    def act():
        with open(record + ".json", "rb") as file:
            text = file.read()
        if not text:
            return "empty", ""
        try:
            found = json.loads(text)
            value, pad = found["value"], found["pad"]
            number = int(value.rsplit("-", 1)[1])
            is_whole = pad == value[0] * sizes[number % 3]
        except (ValueError, KeyError, TypeError, IndexError):
            is_whole = False
        if is_whole:
            return "read", value
        return "torn", "%d bytes: %.80r ... %.40r" % (len(text), text, text[-40:])

    noted(record, ("read", ""), act)


def listed():
    begin = time.monotonic()
    try:
        found = set(os.listdir("."))
    except OSError as error:
        events.append({"by": by, "record": names[0], "begin": begin, "end": time.monotonic(), "what": "listed", "errno": error.errno})
        return
    end = time.monotonic()
    for record in names:
        what = "listed" if record + ".json" in found else "absent"
        events.append({"by": by, "record": record, "begin": begin, "end": end, "what": what, "value": ""})


def work():
    end = time.monotonic() + float(seconds)
    number = 0
    while time.monotonic() < end:
        number += 1
        record, choice = chance.choice(names), chance.random()
        if how == "saver" or how == "user" and choice < 0.35 or how == "service" and choice < 0.8:
            save(record, number, in_place=how == "user" and chance.random() < 0.5)
        elif how == "service" or how == "user" and choice < 0.4:
            noted(record, ("removed", ""), lambda: os.unlink(record + ".json"))
        elif choice < 0.9:
            read(record)
        else:
            listed()
        time.sleep(0.01 if how != "service" else 0.05)


if how == "last":
    for record in names:
        read(record)
    listed()
else:
    work()
for event in events:
    print(json.dumps(event))
