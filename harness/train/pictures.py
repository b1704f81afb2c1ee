"""The curves over each other, how far apart they are, and the memory of a whole step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.report.axes import GREY, add_legend, linear_axis, log_axis, new_figure, save
from harness.report.formats import error, size, times
from harness.report.section import Plot
from harness.report.series import FRAMEWORK_COLOURS, VARIANT_STYLES
from harness.train.agreement import (
    OTHER_FRAMEWORK,
    SAME_FRAMEWORK,
    Comparison,
    Record,
    comparisons,
    run_title,
)
from harness.train.runs import OK

# One on top of the other: each thinner than the one below, so that all can be seen.
_WIDTHS = (7.0, 4.4, 2.4, 1.0)
_FADED = (0.35, 0.55, 0.8, 1.0)


def draw_pictures(records: Sequence[Record], subtitle: str, directory: Path) -> list[Plot]:
    """Writes the PNGs; a picture with nothing to show is left out."""
    done = [record for record in records if record["status"] == OK]
    found = comparisons(done)
    drawn = []
    if done:
        drawn.append(("loss_curves", _curves(done, subtitle), "Training loss", _curves_text(found)))
    if found:
        text = (
            "Between frameworks the optimizer magnifies what each rounds its own way; within one, "
            "nothing differs but the loss."
        )
        drawn.append(("loss_differences", _differences(found, subtitle), "How far apart", text))
    if measured := [record for record in done if record["memory"]]:
        text = (
            "Weights and moments are there all the time (dark); gradients, activations and, with "
            "the standard loss, the logits come and go (light)."
        )
        drawn.append(("step_memory", _memory(measured, subtitle), "Peak memory of a step", text))
    plots = []
    for name, figure, title, caption in drawn:
        path = directory / f"{name}.png"
        save(figure, path)
        plots.append(Plot(path, title, caption))
    return plots


def _curves_text(found: Sequence[Comparison]) -> str:
    if not found:
        return "Each step of each run, and the held-out text (dots)."
    largest = max(found, key=lambda each: each.largest)
    return (
        f"All runs over each other, and the held-out text (dots); the largest difference at any "
        f"step is {error(largest.largest)} ({largest.title})."
    )


def _curves(records: Sequence[Record], subtitle: str) -> Figure:
    figure, axes = new_figure("Training loss, every run over the others", subtitle, "")
    handles = []
    for record, width, alpha in zip(records, _WIDTHS, _FADED, strict=False):
        look: dict[str, Any] = {
            "color": FRAMEWORK_COLOURS[record["framework"]], "lw": width, "alpha": alpha,
            "ls": VARIANT_STYLES[record["loss"]].line,
        }  # fmt: skip
        steps = range(1, len(record["train_loss"]) + 1)
        axes.plot(
            steps,
            record["train_loss"],
            label=run_title(record["framework"], record["loss"]),
            **look,
        )
        handles.append(Line2D([], [], label=run_title(record["framework"], record["loss"]), **look))
        for step, loss in record["held_out"]:
            axes.plot(step + 1, loss, "o", color=look["color"], markersize=width + 3, alpha=alpha)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("cross-entropy")
    add_legend(figure, handles)
    return figure


def _differences(found: Sequence[Comparison], subtitle: str) -> Figure:
    figure, axes = new_figure(
        "The largest relative difference of the loss up to each step", subtitle, ""
    )
    values: list[float] = []
    for each in found:
        framework, loss = each.name.split()
        across = not each.of.startswith(framework)
        # A difference of 0 has no place on a log scale: the line starts where there is one.
        shown = [value if value > 0 else math.nan for value in each.largest_so_far]
        values += [*(value for value in shown if value > 0), each.limit]
        axes.plot(
            range(1, len(shown) + 1), shown, lw=1.8, label=each.title,
            color=GREY if across else FRAMEWORK_COLOURS[framework], ls=VARIANT_STYLES[loss].line,
        )  # fmt: skip
    for limit, words in ((SAME_FRAMEWORK, "within a framework"), (OTHER_FRAMEWORK, "between them")):
        if any(each.limit == limit for each in found):
            axes.axhline(
                limit, lw=1, color="black", ls=(0, (1, 2)) if limit == SAME_FRAMEWORK else ":",
                label=f"allowed {words}: {error(limit)}",
            )  # fmt: skip
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("|loss - reference| / reference, log scale")
    log_axis(axes.yaxis, values, error, 10)
    add_legend(figure, axes.get_legend_handles_labels()[0])
    return figure


def _memory(records: Sequence[Record], subtitle: str) -> Figure:
    probes = "; ".join(dict.fromkeys(record["memory"]["probe"] for record in records))
    figure, axes = new_figure(
        "Peak memory of a whole training step", subtitle, f"memory measured in {probes}"
    )
    peaks = {record["case_id"]: record["memory"]["peak_bytes"] for record in records}
    for place, record in enumerate(records):
        colour, memory = FRAMEWORK_COLOURS[record["framework"]], record["memory"]
        axes.bar(place, memory["state_bytes"], 0.62, color=colour)
        beyond = memory["peak_bytes"] - memory["state_bytes"]
        axes.bar(place, beyond, 0.62, bottom=memory["state_bytes"], color=colour, alpha=0.5)
        standard = peaks.get(f"{record['framework']} standard")
        words = size(memory["peak_bytes"])
        if record["loss"] != "standard" and standard and standard > memory["peak_bytes"]:
            words += f"\n{times(standard / memory['peak_bytes'])} less"
        axes.annotate(
            words, (place, memory["peak_bytes"]), xytext=(0, 4), textcoords="offset points",
            ha="center", fontsize=9,
        )  # fmt: skip
    axes.set_xticks(
        range(len(records)), [run_title(record["framework"], record["loss"]) for record in records]
    )
    axes.set_ylim(0, max(peaks.values()) * 1.15)
    axes.set_ylabel("peak memory")
    axes.grid(False, axis="x")
    linear_axis(axes.yaxis, size, 2)
    figure.legend(
        handles=[
            Patch(color=GREY, label="weights and optimizer state"),
            Patch(color=GREY, alpha=0.5, label="gradients, activations, logits"),
        ],
        loc="outside lower left", ncols=2, frameon=False, fontsize=8.5,
    )  # fmt: skip
    return figure
