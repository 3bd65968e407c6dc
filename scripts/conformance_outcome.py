"""How a test of `scripts/conformance` ended."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """`outcome` is what is compared; `why` says more of it: of a refusal, only which."""

    outcome: str
    why: str = ""

    @property
    def fine(self):
        return self.outcome in ("passed", "skipped")
