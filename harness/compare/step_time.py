"""Whether a case got slower beyond the noise.

A case is slower if its new steps are longer than its old ones times an allowance:

    allowance = (1 + threshold) * max(1, floor, all floors)

where `floor` is the new over the old time of the three bare matmuls of the same shape, and
`all floors` the median of that ratio over the run. So a slower machine is not taken for
slower code, and a floor that was lucky once does not make its case look slow.

"Are longer" is a rank test (Mann-Whitney, one-sided). As the allowance stands inside it, it
asks for evidence of more than the threshold, not for evidence of anything at all together
with medians that happen to lie that far apart.

What it says of one case does not depend on how many others there are. A correction for
their number (Holm's, say) would leave nothing to find: five steps against five give p =
1/252 at best, which is more than 0.05 / 13. Code that did not change has to cross the
allowance by chance instead. For 40 000 comparisons, steps were drawn from those in
`results/`, five against five, each process 1.5 % off (which no test of the steps within it
can see). One in 500 was wrongly called slower, one in 230 where the machine became 20 %
slower: a false alarm in every tenth and every fifth run of 50 cases. With p < 0.05 and
medians 5 % apart, by the clock and over the floor of its shape, it was one in 35 and one
in 8. A real change is found again by a second run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import median

from scipy.stats import mannwhitneyu

from harness.compare.change import Change, NotJudged, Pair, percent_of
from harness.report.formats import milliseconds
from harness.report.measures import figure

SIGNIFICANCE = 0.01


def judge_step_time(pair: Pair, threshold_percent: float) -> Change | NotJudged | None:
    old_s = figure(pair.old, "timing", "step_s") or []
    new_s = figure(pair.new, "timing", "step_s") or []
    if not enough_samples(len(old_s), len(new_s)):
        return NotJudged(
            f"step time: {len(old_s)} and {len(new_s)} steps are too few for p < {SIGNIFICANCE} "
            f"(--repeats={_enough_repeats()} is enough)"
        )
    ratios = pair.machine_ratios
    threshold = 1 + threshold_percent / 100
    if _are_longer(new_s, old_s, threshold * max((1.0, *ratios))):
        kind = "slower"
    elif _are_longer(old_s, new_s, threshold / min((1.0, *ratios))):
        kind = "faster"
    else:
        return None
    before, after = median(old_s), median(new_s)
    over_floor = None
    if pair.old_floor_s and pair.new_floor_s:
        over_floor = before / pair.old_floor_s, after / pair.new_floor_s
    return Change(kind, "step", _text(before), _text(after), percent_of(before, after), over_floor)


def enough_samples(old_count: int, new_count: int) -> bool:
    """Whether the test could say so at all: samples that do not overlap give the least p."""
    return 1 / math.comb(old_count + new_count, old_count) < SIGNIFICANCE


def _are_longer(samples: Sequence[float], others: Sequence[float], allowance: float) -> bool:
    allowed = [sample * allowance for sample in others]
    # Exact for few samples; the normal approximation where counting them all takes long.
    return bool(mannwhitneyu(samples, allowed, alternative="greater").pvalue < SIGNIFICANCE)


def _text(step_s: float) -> str:
    return f"{milliseconds(step_s)} ms"


def _enough_repeats() -> int:
    return next(count for count in itertools.count(1) if enough_samples(count, count))
