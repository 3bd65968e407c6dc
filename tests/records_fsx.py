"""What fsx is to files, for records: random work that keeps each a valid JSON object wherever it can be committed.

Run in a mount, as its user, with SEED, OPERATIONS and PLANTED (the secrets of the records in it) set before it. A model says what every descriptor,
map and name must show after each operation. What the volume must hold, whoever reads our lines compares: after each
operation that commits or moves something, one line with the names concerned, each with the record's view and its secret, or
null if there must be no such record; then it waits for a line. The last line says how much was done.
"""

import ctypes
import json
import mmap
import os
import random
import re
import sys
import traceback

RECORDS = [f"{letter}.json" for letter in "abcdef"]
ATTACHMENTS = ["x.txt", "y.txt"]
MAX_HANDLES = 12
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2

rng = random.Random(SEED)  # noqa: F821
history = []


class File:
    """A record as its user must see it, under whatever name, or under none any more."""

    def __init__(self, name):
        self.name, self.text, self.dirty = name, bytearray(), True

    def pad(self):
        """Where the letters are that can be any others."""
        start = self.text.index(b'"pad": "') + 8
        return start, self.text.index(b'"', start)


class Handle:
    """An open descriptor, or a map, which is a descriptor too."""

    def __init__(self, file, fd, readable, writable, view=None):
        self.file, self.fd, self.readable, self.writable, self.view = file, fd, readable, writable, view
        # Written through the map, and not seen by the server until the kernel writes it back.
        self.unsynced = False


names, attachments, handles = {}, {}, []
# The secret of each record on the volume, and of each that was renamed away or removed, by name.
secrets, away = {}, {}
committed = {}


def letters(count):
    return bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz ", k=count))


def document():
    number = rng.randrange(10_000)
    pad = letters(rng.choice([0, 10, 500, 4096, 9000, 20_000]) + rng.randrange(20))
    return b'{"n": %04d1, "pad": "%s", "end": %04d1}' % (1000 + number, pad, 1000 + number) + b" " * rng.choice([0, 1, 5000])


def tell(*touched):
    """Has the volume compared with what must be there now."""
    records = {}
    for name in touched:
        records[name] = [committed[name].decode(), secrets.get(name)] if name in committed else None
    print(json.dumps({"after": f"operation {len(history)}, {history[-6:]}", "records": records}), flush=True)
    sys.stdin.readline()


def commit(file):
    """What a close or fsync does to what was written."""
    if file.name and file.dirty:
        committed[file.name] = bytes(file.text)
        secrets[file.name] = secrets.get(file.name) or away.pop(file.name, None)
        tell(file.name)
    file.dirty = False
    for handle in handles:
        handle.unsynced = handle.unsynced and handle.file is not file


def pick(*, readable=False, writable=False, mapped=None):
    fitting = [
        handle
        for handle in handles
        if (handle.readable or not readable)
        and (handle.writable or not writable)
        and (mapped is None or mapped == (handle.view is not None))
    ]
    return rng.choice(fitting) if fitting else None


def sync_maps(file):
    """What the server does by name has what it knows; what is in maps only comes later. Each brings its own range."""
    unsynced = [handle for handle in handles if handle.file is file and handle.unsynced]
    for handle in unsynced:
        handle.view.flush()
    if unsynced:
        commit(file)


def write(handle, offset, data):
    text = handle.file.text
    assert os.pwrite(handle.fd, data, offset) == len(data)
    text.extend(bytes(max(0, offset + len(data) - len(text))))
    text[offset : offset + len(data)] = data
    handle.file.dirty = True


def resize(handle, size):
    os.ftruncate(handle.fd, size)
    del handle.file.text[size:]
    handle.file.text.extend(bytes(size - len(handle.file.text)))
    handle.file.dirty = True


def look(handle):
    """Compares a random part of what a descriptor shows."""
    text = handle.file.text
    assert os.fstat(handle.fd).st_size == len(text), "size"
    start = rng.randrange(len(text) + 10)
    count = rng.choice([1, 100, 4096, 100_000])
    if handle.view is not None:
        end = min(len(text), len(handle.view), start + count)
        assert handle.view[start:end] == text[start:end], f"map, {start} to {end}"
    elif handle.readable:
        assert os.pread(handle.fd, count, start) == text[start : start + count], f"read, {count} at {start}"


def look_at_the_file(file):
    for handle in handles:
        if handle.file is file:
            look(handle)


# The operations. Each leaves the text an object.


def do_open():
    if len(handles) >= MAX_HANDLES:
        return do_close()
    name = rng.choice(RECORDS)
    flags = rng.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
    writable = flags != os.O_RDONLY
    create = name not in names
    if create:
        flags, writable = rng.choice([os.O_WRONLY, os.O_RDWR]) | os.O_CREAT | os.O_EXCL, True
        names[name] = File(name)
    elif writable and rng.random() < 0.2:
        sync_maps(names[name])
        flags |= os.O_TRUNC
        names[name].text.clear()
        names[name].dirty = create = True
    fd = os.open(name, flags, 0o640)
    handle = Handle(names[name], fd, flags & os.O_ACCMODE != os.O_WRONLY, writable)
    handles.append(handle)
    if create:
        fill(handle)


def fill(handle):
    """An empty record gets its text, in pieces."""
    text, done = document(), 0
    while done < len(text):
        piece = text[done : done + rng.choice([10, 3000, 100_000])]
        write(handle, done, piece)
        done += len(piece)
        look(handle)


def do_close():
    if not handles:
        return
    handle = handles.pop(rng.randrange(len(handles)))
    if handle.view is not None:
        handle.view.close()
    os.close(handle.fd)
    if handle.writable:
        commit(handle.file)


def do_map():
    handle = pick(readable=True, writable=True, mapped=False)
    if handle and handle.file.text and len(handles) < MAX_HANDLES:
        fd = os.dup(handle.fd)
        handles.append(Handle(handle.file, fd, True, True, mmap.mmap(fd, len(handle.file.text))))


def do_write_map():
    handle = pick(mapped=True)
    if not handle:
        return
    start, end = handle.file.pad()
    end = min(end, len(handle.view))
    if start >= end:
        return
    at = rng.randrange(start, end)
    data = letters(rng.randrange(1, end - at + 1))
    handle.view[at : at + len(data)] = data
    handle.file.text[at : at + len(data)] = data
    handle.file.dirty = handle.unsynced = True
    if rng.random() < 0.5:
        sync_maps(handle.file)


def do_overwrite():
    if handle := pick(writable=True):
        start, end = handle.file.pad()
        at = rng.randint(start, end)
        write(handle, at, letters(rng.randint(0, end - at)))


def do_number():
    """Two writes that belong together: no commit may come between them."""
    if handle := pick(writable=True):
        number = b"%05d" % rng.randrange(10_000, 99_999)
        for member in (rb'"n": (\d+)', rb'"end": (\d+)'):
            write(handle, re.search(member, handle.file.text).start(1), number)
            look_at_the_file(handle.file)


def do_splice():
    """Other letters, more or fewer: everything after them moves."""
    if handle := pick(writable=True):
        start, end = handle.file.pad()
        rest = letters(rng.randrange(12_000)) + bytes(handle.file.text[end:])
        write(handle, start, rest)
        resize(handle, start + len(rest))


def do_rewrite():
    if handle := pick(writable=True):
        resize(handle, 0)
        look_at_the_file(handle.file)
        fill(handle)


def do_space():
    """Longer or shorter by what means nothing; what is longer is zeros at first, and no JSON."""
    if handle := pick(writable=True):
        text = handle.file.text
        least = len(text.rstrip())
        size = rng.randint(least, len(text) + rng.choice([10, 9000]))
        before = len(text)
        if size > before and rng.random() < 0.5:
            os.posix_fallocate(handle.fd, before, size - before)
            text.extend(bytes(size - before))
            handle.file.dirty = True
        else:
            resize(handle, size)
        look_at_the_file(handle.file)
        if size > before:
            write(handle, before, b" " * (size - before))


def do_punch():
    """A hole in the letters reads as zeros, until they are there again."""
    if handle := pick(writable=True):
        start, end = handle.file.pad()
        if start < end:
            at = rng.randrange(start, end)
            count = rng.randrange(1, end - at + 1)
            mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
            if LIBC.fallocate(handle.fd, mode, ctypes.c_long(at), ctypes.c_long(count)) != 0:
                raise OSError(ctypes.get_errno(), "fallocate")
            handle.file.text[at : at + count] = bytes(count)
            handle.file.dirty = True
            look_at_the_file(handle.file)
            write(handle, at, letters(count))


def do_append():
    file = names.get(rng.choice(RECORDS))
    if file:
        fd = os.open(file.name, os.O_WRONLY | os.O_APPEND)
        data = b"\n" * rng.randrange(1, 50)
        # Wherever the descriptor stands.
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.write(fd, data) == len(data)
        file.text.extend(data)
        file.dirty = True
        look_at_the_file(file)
        os.close(fd)
        commit(file)


def do_copy():
    """Letters of one record into another, or within one."""
    source, target = pick(readable=True), pick(writable=True)
    if not source or not target:
        return
    (start, end), (to, limit) = source.file.pad(), target.file.pad()
    count = rng.randint(0, min(end - start, limit - to))
    if count == 0 or (source.file is target.file and start + count > limit - count):
        return
    if source.file is target.file:
        to = limit - count
    done = 0
    while done < count:
        copied = os.copy_file_range(source.fd, target.fd, count - done, start + done, to + done)
        assert copied > 0, "nothing copied"
        done += copied
    target.file.text[to : to + count] = source.file.text[start : start + count]
    target.file.dirty = True


def do_fsync():
    if handle := pick(writable=True):
        rng.choice([os.fsync, os.fdatasync])(handle.fd)
        commit(handle.file)


def do_forget():
    """What the kernel has of it goes, and comes anew from the server."""
    if handle := pick(readable=True):
        os.posix_fadvise(handle.fd, 0, 0, os.POSIX_FADV_DONTNEED)


def do_truncate_by_name():
    if file := names.get(rng.choice(RECORDS)):
        sync_maps(file)
        size = rng.randint(len(file.text.rstrip()), len(file.text))
        os.truncate(file.name, size)
        del file.text[size:]
        file.dirty = True
        commit(file)


def settled(name):
    """A record that is renamed is committed before."""
    file = names[name]
    sync_maps(file)
    if file.dirty:
        file.dirty = False
        committed[name] = bytes(file.text)
        secrets[name] = secrets.get(name) or away.pop(name, None)
    return file


def displace(name):
    """Whoever has it open goes on having it."""
    if name in names:
        names.pop(name).name = None


def do_rename():
    source, target = rng.sample(RECORDS, 2)
    if source not in names:
        return
    file = settled(source)
    os.rename(source, target)
    displace(target)
    names[target] = names.pop(source)
    file.name = target
    committed[target] = committed.pop(source)
    # A secret that only the record before it had goes on.
    secret = secrets.pop(source)
    secrets[target] = secret or secrets.get(target) or away.get(target)
    away.pop(target, None)
    if secret:
        # The next record of the old name gets it too.
        away[source] = secret
    tell(source, target)


def do_exchange():
    one, other = rng.sample(RECORDS, 2)
    if one in names and other in names:
        first, second = settled(one), settled(other)
        if LIBC.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")
        names[one], names[other] = second, first
        first.name, second.name = other, one
        committed[one], committed[other] = committed[other], committed[one]
        # A name that had a secret keeps it: where only one had, both have it now.
        secrets[one], secrets[other] = secrets[other] or secrets[one], secrets[one] or secrets[other]
        tell(one, other)


def do_rename_away():
    """As editors make backups. What is written through a descriptor then is for nobody, so there is none."""
    source, target = rng.choice(RECORDS), rng.choice(ATTACHMENTS)
    if source in names and not any(handle.file is names[source] for handle in handles):
        file = settled(source)
        os.rename(source, target)
        del names[source]
        attachments[target] = bytes(file.text)
        away[source] = secrets.pop(source)
        del committed[source]
        tell(source)


def do_rename_back():
    source, target = rng.choice(ATTACHMENTS), rng.choice(RECORDS)
    if source in attachments:
        if target in names:
            sync_maps(names[target])
        os.rename(source, target)
        displace(target)
        names[target] = file = File(target)
        file.text[:] = attachments.pop(source)
        commit(file)


def do_unlink():
    name = rng.choice(RECORDS)
    if name in names:
        os.unlink(name)
        displace(name)
        if committed.pop(name, None) is not None:
            # It waits for the next of its name, as one that was renamed away.
            away[name] = secrets.pop(name, None)
        tell(name)


def do_look_at_all():
    assert sorted(os.listdir(".")) == sorted([*names, *attachments]), "names"
    for name, text in [*((name, file.text) for name, file in names.items()), *attachments.items()]:
        assert os.stat(name).st_size == len(text), f"size of {name}"
        with open(name, "rb") as file:
            assert file.read() == text, f"content of {name}"


WEIGHTS = {
    do_open: 12,
    do_close: 8,
    do_map: 3,
    do_write_map: 8,
    do_overwrite: 12,
    do_number: 6,
    do_splice: 5,
    do_rewrite: 2,
    do_space: 6,
    do_punch: 3,
    do_append: 2,
    do_copy: 4,
    do_fsync: 2,
    do_forget: 4,
    do_truncate_by_name: 1,
    do_rename: 2,
    do_exchange: 1,
    do_rename_away: 1,
    do_rename_back: 2,
    do_unlink: 1,
    do_look_at_all: 1,
}


def take_over():
    """Records that the service has made already; their secrets are told, for the mount has none."""
    for name, secret in PLANTED.items():  # noqa: F821
        names[name] = file = File(name)
        file.text[:] = open(name, "rb").read()
        file.dirty = False
        committed[name], secrets[name] = bytes(file.text), secret


def main():
    os.chdir("schedules")
    take_over()
    tell(*RECORDS)
    for number in range(OPERATIONS):  # noqa: F821
        operation = rng.choices(list(WEIGHTS), WEIGHTS.values())[0]
        history.append(operation.__name__)
        operation()
        if handle := pick():
            look(handle)
    while handles:
        do_close()
    do_look_at_all()
    tell(*RECORDS)


try:
    main()
except BaseException:
    told = traceback.format_exc()
    where = f"seed {SEED}, operation {len(history)}, {history[-6:]}"  # noqa: F821
    print(f"FAILED: {where}: {told}"[:6000].replace("\n", " | "))
else:
    print(f"DONE: {len(history)}")
