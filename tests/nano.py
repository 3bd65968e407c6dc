"""Edits a file with nano in a terminal of its own, as a person would: replaces a word and saves.

nano.py FILE OLD NEW
"""

import os
import pty
import select
import sys
import time

DEADLINE = time.monotonic() + 30


def screen_until_quiet(terminal):
    """What nano draws until it has drawn nothing more for a while: it then waits for a key."""
    drawn = b""
    while select.select([terminal], [], [], 0.3 if drawn else 10)[0]:
        if time.monotonic() > DEADLINE:
            sys.exit("nano.py: nano does not settle")
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: nano has ended.
            break
        if not data:
            break
        drawn += data
    return drawn


def main():
    file, old, new = sys.argv[1:]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("nano", ["nano", "--ignorercfiles", file])
    drawn = screen_until_quiet(terminal)
    # ^\ replaces, A means all of them; ^O writes, to the name it offers; ^X leaves.
    for keys in ("\x1c", old + "\r", new + "\r", "a", "\x0f", "\r", "\x18"):
        os.write(terminal, keys.encode())
        drawn += screen_until_quiet(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0 or b"Error writing" in drawn:
        sys.exit(f"nano.py: nano ended with {status} and drew {drawn!r}")


if __name__ == "__main__":
    main()
