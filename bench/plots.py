"""Figures of a run -> pictures: PNG and SVG, the same data, nothing smoothed or left out.

Bars are medians, whiskers the range. What was not measured in that run is not drawn.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import Figure

DRAWN = {
    "scans": ("The same code over 40 MB: in the jail and in plain CPython", "ms"),
    "greps": ("grep by RE2 over 40 MB, beside re line by line in plain CPython", "ms"),
    "loads": ("Loaded and first cell done, beside reading the file", "s"),
    "peers": ("A file is read and asked about once: whole process", "s"),
    "memory": ("A file is read and asked about once: memory at its peak beyond one copy", "MB"),
}


def draw(figures: Sequence[Figure], folder: Path, note: str) -> list[Path]:
    """Draw what there is into `folder`; the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "abyme"  # the same figures give the same file
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for name, (title, unit) in DRAWN.items():
        rows = [(label, figure) for figure in figures if (label := _label(name, figure))]
        if rows:
            made += _bars(folder / name, title, unit, rows, note)
    return made


def _label(plot: str, figure: Figure) -> str:
    """What a figure is called in a plot; nothing where it does not belong."""
    what, _, which = figure.name.partition(": ")
    match plot:
        case "scans" if "floor, this process" in which or which == "in the jail":
            return f"{what}: {which.removeprefix('floor, ')}"
        case "greps" if " grep " in what:
            return f"{what}: {which.removeprefix('floor, ')}"
        case "loads" if which in {"floor: read", "loaded and first cell done"}:
            return f"{what}: {which.removeprefix('floor: ')}"
        case "peers" if which == "whole process":
            return what
        case "memory" if which.startswith("memory at its peak"):
            return what
    return ""


def _bars(
    path: Path, title: str, unit: str, rows: Sequence[tuple[str, Figure]], note: str
) -> list[Path]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
    medians = [one.median for _, one in rows]
    below = [one.median - min(one.samples) for _, one in rows]
    above = [max(one.samples) - one.median for _, one in rows]
    plain = ["#9aa5b1" if _is_floor(label) else "#1f5fa8" for label, _ in rows]
    places = range(len(rows))
    axes.barh(places, medians, xerr=[below, above], color=plain, ecolor="#333333", capsize=2)
    axes.set_yticks(places, [label for label, _ in rows], fontsize=8)
    axes.invert_yaxis()
    if min(medians) > 0 and max(medians) > 50 * min(medians):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")
    axes.set_xlabel(f"{unit}   ({note})", fontsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    for place, median in zip(places, medians, strict=True):
        axes.annotate(
            f" {median:,.3g}", (max(median, 0), place), va="center", fontsize=7, color="#333333"
        )
    files = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in files:
        metadata: dict[str, Any] = {"Date": None} if file.suffix == ".svg" else {"Software": None}
        figure.savefig(file, dpi=110, metadata=metadata)
    plt.close(figure)
    return files


def _is_floor(label: str) -> bool:
    """Whether a bar is what ours is measured against: bare Python, or another engine."""
    other = "MB, " in label and "abyme" not in label
    return other or label.endswith((": this process", ": re here", ": read"))
