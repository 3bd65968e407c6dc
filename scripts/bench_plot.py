"""The plot of `scripts/bench`: how many times as long as natively each operation takes, on a logarithmic scale, as SVG.

It has no background, and greys and colours that stand out from a white page as from a black one.
"""

import math
from xml.sax.saxutils import escape

COLOURS = {
    "tenantfs": "#d9480f",
    "bindfs": "#2f81f7",
    "passthrough_hp": "#2da44e",
    "mergerfs": "#a371f7",
    "gocryptfs": "#b08800",
}
GREY = "#768390"
LABELS, PLOT, RIGHT = 200, 560, 60
TOP, BAR, GAP = 70, 9, 12
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def element(name, content="", **attributes):
    listed = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<{name}{listed}>{content}</{name}>"


def words(x, y, content, **attributes):
    return element("text", escape(content), x=round(x, 1), y=round(y, 1), **{"fill": GREY, **attributes})


def rectangle(x, y, width, height, **attributes):
    return element("rect", x=round(x, 1), y=round(y, 1), width=round(width, 1), height=height, **attributes)


def plot(results, caption):
    targets = [target for target in COLOURS if target in results.targets()]
    operations = [name for name in results.reports if any(results.ratio(name, target) for target in targets)]
    ratios = [ratio for name in operations for target in targets if (ratio := results.ratio(name, target))]
    if not ratios:
        return None
    low = max([tick for tick in TICKS if tick <= min(*ratios, 1)], default=TICKS[0])
    high = min([tick for tick in TICKS if tick >= max(*ratios, 2)], default=TICKS[-1])

    def x(ratio):
        share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
        return LABELS + share * PLOT

    row = len(targets) * BAR + GAP
    height = TOP + row * len(operations) + 24
    title = "Time as a multiple of native (1 = the volume's own directory), shorter is better"
    parts = [words(0, 16, title, font_size=15, font_weight="bold"), words(0, 33, caption)]
    left = 0
    for target in targets:
        parts.append(rectangle(left, 43, 11, 11, fill=COLOURS[target]))
        parts.append(words(left + 16, 53, target))
        left += 30 + 7.2 * len(target)
    for tick in TICKS:
        if low <= tick <= high:
            line = {"stroke": GREY, "stroke_opacity": 0.9 if tick == 1 else 0.25}
            parts.append(element("line", x1=round(x(tick), 1), y1=TOP - 4, x2=round(x(tick), 1), y2=height - 18, **line))
            parts.append(words(x(tick), height - 4, f"{tick:g}×", text_anchor="middle"))
    for index, operation in enumerate(operations):
        y = TOP + row * index
        parts.append(words(LABELS - 8, y + len(targets) * BAR / 2 + 4, operation, text_anchor="end"))
        for number, target in enumerate(targets):
            ratio = results.ratio(operation, target)
            if ratio is None:
                continue
            begin, end = sorted((x(1), x(ratio)))
            top = y + number * BAR
            parts.append(rectangle(begin, top, max(end - begin, 1), BAR - 1, fill=COLOURS[target]))
            bold = {"font_weight": "bold", "fill": COLOURS[target]} if target == "tenantfs" else {}
            parts.append(words(max(end, x(1)) + 4, top + BAR - 1.5, f"{ratio:.1f}", font_size=9, **bold))
    attributes = {"viewBox": f"0 0 {LABELS + PLOT + RIGHT} {height}", "font_family": "system-ui, sans-serif", "font_size": 12}
    return element("svg", "\n".join(["", *parts, ""]), xmlns="http://www.w3.org/2000/svg", **attributes) + "\n"
