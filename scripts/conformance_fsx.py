"""fsx: random operations on one file, each read compared with what must be there

The crate, seven profiles, with seeds of their own: the same operations on either side, and in every run.
"""

from conformance_outcome import Outcome

CRATES = [("fsx", "0.3.2")]
PACKAGES = []
# Nothing here is refused.
REFUSED = {}

OPERATIONS, QUICK = 30_000, 2_000
# fsx gives some operations a weight unless it is told.
_NOTHING = dict.fromkeys(("read", "write", "mapread", "mapwrite", "truncate"), 0)

# By profile: settings of fsx, and the relative weight of each operation.
PROFILES = {
    "read and write": ("", {"read": 10, "write": 10, "truncate": 2, "close_open": 1}),
    "maps, synced": ("", {"read": 5, "write": 5, "mapread": 10, "mapwrite": 10, "invalidate": 2, "truncate": 2}),
    "maps, unsynced": (
        "nomsyncafterwrite = true",
        {"read": 5, "write": 5, "mapread": 10, "mapwrite": 10, "truncate": 3, "close_open": 1, "sendfile": 3},
    ),
    "sizes, reopened": ("", {"read": 5, "write": 5, "truncate": 10, "close_open": 5, "mapread": 3, "posix_fadvise": 3}),
    "holes and space": (
        "",
        {"read": 5, "write": 5, "mapread": 3, "mapwrite": 3, "truncate": 2, "punch_hole": 5, "posix_fallocate": 5},
    ),
    "copies, synced": (
        "",
        {"read": 5, "write": 5, "copy_file_range": 10, "sendfile": 5, "truncate": 2, "fsync": 0.3, "fdatasync": 0.3},
    ),
    "whole blocks": (
        "[opsize]\nalign = 4096\nmin = 4096",
        {
            **dict.fromkeys(("read", "write", "mapread", "mapwrite", "copy_file_range", "sendfile", "posix_fadvise"), 5),
            **dict.fromkeys(("truncate", "invalidate", "close_open", "punch_hole"), 2),
            **dict.fromkeys(("fsync", "fdatasync"), 0.2),
        },
    ),
}


def run(place, quick):
    outcomes = {}
    for seed, (profile, (settings, weights)) in enumerate(PROFILES.items(), 1):
        config = place.base / f"fsx-{seed}.toml"
        lines = [settings, "[weights]", *(f"{name} = {weight}" for name, weight in (_NOTHING | weights).items())]
        config.write_text("\n".join(lines))
        operations = str(QUICK if quick else OPERATIONS)
        repeatable = ["-N", operations, "-S", str(seed), "-P", place.elsewhere]
        code, said = place.run(place.base / "fsx", "-q", "-q", "-f", config, *repeatable, f"fsx-{seed}", timeout=1200)
        passed = code == 0 and "A-OK" in said
        outcomes[profile] = Outcome("passed") if passed else Outcome("failed", said.strip()[-500:] or f"exit code {code}")
    return outcomes


def rows(native, mounted):
    return [(profile, native[profile].outcome, mounted[profile].outcome) for profile in PROFILES]
