"""What was measured, as a table in Markdown and as a plot."""

import statistics
from pathlib import Path

from benchmarks.measure import Figures
from benchmarks.systems import OURS, System

RESULTS = Path("benchmarks") / "results.md"
PLOT = Path("benchmarks") / "drain.svg"
PLOTTED = "drain no-op/s"
BAR, LEFT, WIDTH = 26, 110, 720


def medians(rounds: list[Figures]) -> Figures:
    """The median of each figure over the rounds that have it."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {name: statistics.median(f[name] for f in rounds if name in f) for name in names}


def table(found: dict[System, Figures]) -> str:
    """A row a figure, a column a system, with our ratio to each peer for rates."""
    systems = list(found)
    rows = [["", *(system.name for system in systems)], ["---", *("---:" for _ in systems)]]
    for name in dict.fromkeys(name for figures in found.values() for name in figures):
        rows.append([name, *(_cell(found[system].get(name)) for system in systems)])
        if name.endswith("/s"):
            ours = found[OURS].get(name)
            rows.append([f"ours to theirs, {name}", *(_ratio(ours, found[system].get(name)) for system in systems)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(ours: float | None, theirs: float | None) -> str:
    return "-" if ours is None or theirs is None else f"{ours / theirs:.1f} x"


def plot(found: dict[System, Figures]) -> str:
    """No-op jobs a second as bars, fastest first."""
    values = sorted(((f[PLOTTED], s.name) for s, f in found.items() if PLOTTED in f), reverse=True)
    scale = (WIDTH - LEFT - 90) / values[0][0]
    height = BAR * len(values) + 50
    bars = []
    for place, (value, name) in enumerate(values):
        y, length = 40 + BAR * place, max(1.0, value * scale)
        colour = {"embarq": "#2563eb", "floor": "#cbd5e1"}.get(name, "#94a3b8")
        bars += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{name}</text>',
            f'<rect x="{LEFT}" y="{y + 2}" width="{length:.0f}" height="{BAR - 8}" rx="3" fill="{colour}"/>',
            f'<text x="{LEFT + length + 8:.0f}" y="{y + 15}">{value:,.0f}</text>',
        ]
    title = "No-op jobs a second, one worker process, concurrency 100, results stored"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="13" fill="#334155"><rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="24" font-weight="bold">{title}</text>{"".join(bars)}</svg>\n'
    )
