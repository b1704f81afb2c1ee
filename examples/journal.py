"""What a run tells: a progress bar, a line a step in `metrics.jsonl`, and its last words."""

from __future__ import annotations

import math
import os
import statistics
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from examples.metrics import METRICS, line_of, read_metrics
from examples.recipe import Recipe


class Journal:
    """Of one run, from the step it starts with; what an earlier try did beyond it is dropped."""

    def __init__(self, recipe: Recipe, first_step: int) -> None:
        if first_step > recipe.steps:
            raise SystemExit(
                f"--steps: expected {first_step} or more, which are done, got {recipe.steps}"
            )
        self._recipe, self._console = recipe, Console(highlight=False)
        recipe.output_dir.mkdir(parents=True, exist_ok=True)
        path = recipe.output_dir / METRICS
        kept = [line for line in read_metrics(path) if 0 <= line["step"] < first_step]
        self._lines = [{"step": -1, "recipe": _plain(recipe)}, *kept]
        path.with_suffix(".new").write_text("".join(map(line_of, self._lines)))
        os.replace(path.with_suffix(".new"), path)
        self._file = path.open("a", buffering=1)  # a kill loses no line
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console)
        self._task = self._bar.add_task("", total=recipe.steps, completed=first_step)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._bar.stop()
        self._file.close()

    def step(self, step: int, loss: float, seconds: float) -> None:
        rate = self._recipe.batch_size * self._recipe.length / seconds
        self._write({"step": step, "loss": loss, "step_s": seconds})
        about = f"loss {loss:.3f}  {rate:,.0f} tokens/s"
        self._bar.update(self._task, completed=step + 1, description=about)
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss: expected a finite number at step {step}, got {loss}")

    def held_out(self, step: int, loss: float) -> None:
        self._write({"step": step, "held_out_loss": loss})
        self._bar.print(
            f"step {step + 1:>4}  held-out loss {loss:.3f}  perplexity {math.exp(loss):,.1f}"
        )

    def close(self, sample: str) -> None:
        """Tokens per second, and what the model writes."""
        steps = [line["step_s"] for line in self._lines if "step_s" in line]
        seconds = statistics.median(steps[1:] or steps)  # the first one compiles
        tokens = self._recipe.batch_size * self._recipe.length
        last = {
            "step": self._recipe.steps, "median_step_s": seconds, "tokens_per_s": tokens / seconds,
            "sample": sample,
        }  # fmt: skip
        self._write(last)
        self._bar.print(
            f"{tokens / seconds:,.0f} tokens/s (a step is {seconds * 1e3:,.0f} ms)\n\n{sample}",
            markup=False,
            soft_wrap=True,
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._lines.append(line)
        self._file.write(line_of(line))


def _plain(recipe: Recipe) -> dict[str, Any]:
    """What a run does, and not where it leaves that."""
    whole = asdict(recipe)
    return {name: whole[name] for name in whole if name not in ("output_dir", "resume")}
