"""libfuse's own example of a fast file system, passthrough_hp. No Debian package has it built, so it is built here.

The source is that of the installed libfuse3-dev, of Debian's archive, whose signatures apt checks; it stays in target/tools.
"""

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "tools"


class CannotBuild(Exception):
    """Says what is missing."""


def run(*command, cwd):
    try:
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=600)
    except FileNotFoundError:
        raise CannotBuild(f"{command[0]} is missing") from None
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"{command[0]}: {error.stderr.strip() or error.stdout.strip()}") from None
    return done.stdout.strip()


def version():
    return run("dpkg-query", "--show", "--showformat", "${source:Version}", "libfuse3-dev", cwd=ROOT)


def build():
    """The program's path; it is built when this version of it is not there yet."""
    directory = TOOLS / f"fuse3-{version()}"
    program = directory / "passthrough_hp"
    if program.exists():
        return program
    # Lists of packages of our own: the machine's do not have sources, and are not ours to change.
    (directory / "lists/partial").mkdir(parents=True, exist_ok=True)
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    source = f"deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {release} main\n"
    (directory / "sources.list").write_text(source)
    options = {
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": directory / "lists",
        "APT::Sandbox::User": "root",
        "APT::Update::Post-Invoke-Success": "",
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    run(*apt, "update", cwd=directory)
    run(*apt, "source", "--download-only", f"fuse3={version()}", cwd=directory)
    (archive,) = directory.glob("fuse3_*.orig.tar.*z")
    run("tar", "-xf", archive, "--strip-components=1", "--wildcards", "*/example/*", cwd=directory)
    # What meson would write: its headers only want to include it.
    (directory / "fuse_config.h").touch()
    library = run("pkg-config", "--cflags", "--libs", "fuse3", cwd=directory).split()
    compiler = ["g++", "-O2", "-std=c++17", "-D_FILE_OFFSET_BITS=64", "-I.", "example/passthrough_hp.cc", "-o", "unfinished"]
    run(*compiler, *library, "-pthread", cwd=directory)
    (directory / "unfinished").rename(program)
    return program
