"""A whole watch judged afterwards as it would have been judged then: to its first alarm, knowing nothing later."""

from dataclasses import replace

from analysis.judge import judge
from analysis.prepare import Observation
from analysis.result import JudgeSettings, Reason, Verdict


def watch(observation: Observation, settings: JudgeSettings) -> Verdict:
    """The verdict of the look that alarms first, as it was said then; without an alarm that of the last look.

    The judge's alarms never change when later looks arrive, so judging all looks at once finds the first; judging
    again up to it leaves the later ones out of its words. Only samples that cannot be weighed at all hide what was
    said before them: then it is judged look by look. Where the time before the deploy came late, the looks until then
    come first by themselves, and no alarm was said before it came that needed it.
    """
    late = max((fact.known_from or 0 for fact in observation.facts.values()), default=0)
    if late:
        until_then = watch(known(observation, late), settings)
        if until_then.alarm_look is not None:
            return until_then
    whole = judge([observation], [settings])[0]
    if whole.alarm_look is not None:
        return judge([known(observation, max(whole.alarm_look, late) + 1)], [settings])[0]
    if whole.reason is not Reason.MISCONFIGURED:
        return whole
    steps = (judge([known(observation, looks)], [settings])[0] for looks in range(1, observation.looks))
    return next((verdict for verdict in steps if verdict.alarm_look is not None), whole)


def known(observation: Observation, looks: int) -> Observation:
    """What was known after so many looks: nothing later, and of the time before the deploy what had come by then.

    >>> from analysis.result import Design
    >>> known(Observation(design=Design.CONCURRENT, step_s=5.0, metrics=(), samples={}, looks=9), 3).looks
    3
    """
    facts = {interval: fact for interval, fact in observation.facts.items() if interval < looks}
    late = {interval for interval, fact in facts.items() if fact.known_from is not None and fact.known_from >= looks}
    facts = {interval: fact for interval, fact in facts.items() if interval not in late}
    samples = {key: cells for key, cells in observation.samples.items() if key[1] < looks and key[1] not in late}
    return replace(observation, samples=samples, facts=facts, looks=looks)
