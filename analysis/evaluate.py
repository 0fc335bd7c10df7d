"""How good verdicts were, where the truth is known: false alarms, faults found, how early, how late."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from scipy.special import betaincinv


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One judged deploy beside its truth. Times in seconds from the deploy; an alarm counts from its look's end."""

    group: str  # what is reported together, e.g. a dataset
    fault: bool
    alarm_at_s: float | None
    acted: bool  # the alarm would have rolled back; else it was only told
    step_s: float  # one recorded step, the unit of delay
    onset_s: float = 0.0

    @property
    def early(self) -> bool:
        """Whether the fault cannot be the reason: the alarming look was over when it began."""
        return self.fault and self.alarm_at_s is not None and self.alarm_at_s <= self.onset_s

    @property
    def found(self) -> bool:
        return self.fault and self.alarm_at_s is not None and not self.early

    @property
    def delay_steps(self) -> float:
        """Steps from the onset to the end of the alarming look: 1 is the first step that could show anything."""
        return (self.alarm_at_s - self.onset_s) / self.step_s if self.alarm_at_s is not None else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The trials of one group, counted."""

    group: str
    unchanged: int  # deploys in which nothing was broken
    false: int  # of these, alarms
    false_acted: int  # of these, rollbacks
    faults: int
    found: int
    early: int
    median_delay_steps: float | None  # of those found


def score(trials: Iterable[Trial]) -> list[Score]:
    """Count the trials of every group, in the groups' order, and of all together.

    >>> good = Trial(group="a", fault=False, alarm_at_s=None, acted=False, step_s=60)
    >>> bad = Trial(group="a", fault=True, alarm_at_s=180, acted=True, step_s=60, onset_s=60)
    >>> score([good, bad])[-1]
    Score(group='all', unchanged=1, false=0, false_acted=0, faults=1, found=1, early=0, median_delay_steps=2.0)
    """
    known = list(trials)
    groups = sorted({trial.group for trial in known})
    each = [_score(group, [trial for trial in known if trial.group == group]) for group in groups]
    return [*each, _score("all", known)]


def _score(group: str, trials: Sequence[Trial]) -> Score:
    unchanged = [trial for trial in trials if not trial.fault]
    alarmed = [trial for trial in unchanged if trial.alarm_at_s is not None]
    found = [trial.delay_steps for trial in trials if trial.found]
    return Score(
        group=group,
        unchanged=len(unchanged),
        false=len(alarmed),
        false_acted=sum(trial.acted for trial in alarmed),
        faults=len(trials) - len(unchanged),
        found=len(found),
        early=sum(trial.early for trial in trials),
        median_delay_steps=float(median(found)) if found else None,
    )


def exact_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson, Biometrika 26, 1934): it holds at least its level.

    Parameters
    ----------
    hits, n
        How often it happened, of how many.
    level
        The interval's level, shared evenly between both ends.

    Returns
    -------
    Lower and upper end as shares; (0, 1) where nothing was seen.

    >>> [round(end, 4) for end in exact_interval(7, 616)]
    [0.0046, 0.0233]
    >>> exact_interval(0, 0)
    (0.0, 1.0)
    """
    tail = (1.0 - level) / 2.0
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1.0 - tail)) if hits < n else 1.0
    return low, high
