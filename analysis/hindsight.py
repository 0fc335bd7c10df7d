"""A whole watch judged afterwards as it would have been judged then: to its first alarm, knowing nothing later."""

from dataclasses import replace

from analysis.judge import judge
from analysis.prepare import Observation
from analysis.result import JudgeSettings, Reason, Verdict


def watch(observation: Observation, settings: JudgeSettings) -> Verdict:
    """The verdict of the look that alarms first, as it was said then; without an alarm that of the last look.

    The judge's alarms never change when later looks arrive, so judging all looks at once finds the first; judging
    again up to it leaves the later ones out of its words. Only samples that cannot be weighed at all hide what was
    said before them: then it is judged look by look.
    """
    whole = judge([observation], [settings])[0]
    if whole.alarm_look is not None:
        return judge([known(observation, whole.alarm_look + 1)], [settings])[0]
    if whole.reason is not Reason.MISCONFIGURED:
        return whole
    steps = (judge([known(observation, looks)], [settings])[0] for looks in range(1, observation.looks))
    return next((verdict for verdict in steps if verdict.alarm_look is not None), whole)


def known(observation: Observation, looks: int) -> Observation:
    """What was known after so many looks.

    >>> from analysis.result import Design
    >>> known(Observation(design=Design.CONCURRENT, step_s=5.0, metrics=(), samples={}, looks=9), 3).looks
    3
    """
    samples = {key: cells for key, cells in observation.samples.items() if key[1] < looks}
    facts = {interval: fact for interval, fact in observation.facts.items() if interval < looks}
    return replace(observation, samples=samples, facts=facts, looks=looks)
