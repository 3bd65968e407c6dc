"""What `scripts/bench` found, as tables in Markdown and as JSON; and the project's aims beside it."""

import math
import statistics
from collections import defaultdict

PEERS = ("bindfs", "passthrough_hp", "mergerfs", "gocryptfs")


class Results:
    """What was measured, by operation, in the order in which it came, and by target."""

    def __init__(self, names):
        self.names = names
        self.reports = defaultdict(lambda: defaultdict(list))
        self.delays = {}

    def add(self, operation, target, report):
        self.reports[operation][target].append(report)

    def targets(self):
        return [name for name in self.names if any(name in by_target for by_target in self.reports.values())]

    def values(self, operation, target, field="total"):
        values = [report[field] for report in self.reports.get(operation, {}).get(target, [])]
        return [value for value in values if value is not None]

    def median(self, operation, target, field="total"):
        values = self.values(operation, target, field)
        return statistics.median(values) if values else None

    def ratio(self, operation, target, base="native"):
        """How many times as long as the base it takes."""
        own, other = self.median(operation, target), self.median(operation, base)
        return own / other if own is not None and other is not None else None

    def as_json(self):
        operations = {
            operation: {
                target: {field: self.values(operation, target, field) for field in ("total", "p50", "p99", "max")}
                | {"operations": reports[0]["operations"]}
                for target, reports in by_target.items()
            }
            for operation, by_target in self.reports.items()
        }
        return {"operations": operations, "visibility": self.delays}


def quantile(values, part):
    """The nearest rank: of a hundred values the 99th is the last but one."""
    return sorted(values)[max(0, math.ceil(len(values) * part) - 1)]


def table(header, rows):
    """Markdown that is a table on a terminal, too."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells):
        first, *others = zip(cells, widths)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def digits(value):
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def totals(results):
    targets = results.targets()

    def cell(operation, target):
        values = results.values(operation, target)
        if not values:
            return ""
        ratio = results.ratio(operation, target)
        return f"{digits(min(values))}/{digits(statistics.median(values))}" + (f" {ratio:.1f}×" if target != "native" and ratio else "")

    rows = [[operation, *(cell(operation, target) for target in targets)] for operation in results.reports]
    return table(["seconds, min/median", *targets], rows)


def quantiles(results):
    """Of single operations, as far as there are some."""
    targets = results.targets()

    def cell(operation, target):
        p50, p99 = (results.median(operation, target, field) for field in ("p50", "p99"))
        return "" if p50 is None else f"{digits(p50 * 1e6)}/{digits(p99 * 1e6)}"

    rows = [[operation, *(cell(operation, target) for target in targets)] for operation in results.reports]
    return table(["µs, p50/p99", *targets], [row for row in rows if any(row[1:])])


def visibility(results):
    names = list(results.delays)
    kinds = list(dict.fromkeys(kind for delays in results.delays.values() for kind in delays))

    def cell(values):
        return "/".join(f"{value * 1e3:.1f}" for value in (quantile(values, 0.5), quantile(values, 0.99), max(values)))

    rows = [[kind, *(cell(results.delays[name][kind]) for name in names)] for kind in kinds]
    rows.append(["all", *(cell(sum(results.delays[name].values(), [])) for name in names)])
    return table(["ms until it is seen, p50/p99/max", *names], rows)


def aims(results):
    """Each aim of the project: what was measured, and whether that is enough. What was not measured is not there."""
    found = []

    def aim(text, measured, met, unit="× native"):
        if measured is not None:
            found.append({"aim": text, "measured": f"{measured:.2f} {unit}", "met": met(measured)})

    def fastest_peer(operation):
        times = [results.median(operation, peer) for peer in PEERS]
        own = results.median(operation, "tenantfs")
        return None if own is None or None in times else min(times) / own

    aim("stat, warm: at most 1.2 × native", results.ratio("stat, warm", "tenantfs"), lambda ratio: ratio <= 1.2)
    for operation in [name for name in results.reports if name.startswith("ls ")]:
        aim(f"{operation}: at most 2 × native", results.ratio(operation, "tenantfs"), lambda ratio: ratio <= 2)
        times = results.ratio(operation, "bindfs", "tenantfs")
        aim(f"{operation}: at least 5 × as fast as bindfs", times, lambda times: times >= 5, "× as fast")
    times = fastest_peer("open, read, close, warm")
    aim("open, read, close, warm: at least 2 × as fast as every peer", times, lambda times: times >= 2, "× as fast as the best")
    for operation in ("create", "create, fsync"):
        aim(f"{operation}: no slower than the best peer", fastest_peer(operation), lambda times: times >= 1, "× as fast as the best")
    for operation in [name for name in results.reports if name.startswith("sequential")]:
        speed = results.ratio(operation, "native", "tenantfs")
        aim(f"{operation}: at least 0.8 × native's speed", speed, lambda speed: speed >= 0.8, "× native's speed")
    delays = sum(results.delays.get("tenantfs", {}).values(), [])
    p99 = quantile(delays, 0.99) * 1e3 if delays else None
    aim("another program's change is seen within 50 ms (p99)", p99, lambda p99: p99 <= 50, "ms")
    return found


def aims_table(found):
    return table(["aim", "measured", ""], [[aim["aim"], aim["measured"], "met" if aim["met"] else "MISSED"] for aim in found])


def text(results):
    parts = []
    if results.reports:
        parts += [totals(results), quantiles(results)]
    if results.delays:
        parts.append(visibility(results))
    return "\n\n".join([*parts, aims_table(aims(results))])
