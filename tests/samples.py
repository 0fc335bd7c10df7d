"""Sample nouns that many tests start from."""

from analysis.result import Design, JudgeSettings, Kind, MetricSpec
from watchdog.model import Deploy, Metric, Mode, Plan, State, Strategy, Watch
from watchdog.selector import parse_selector

DEPLOYED_AT = 1_700_000_000.0


def errors_metric(name: str = "errors") -> Metric:
    return Metric(
        spec=MetricSpec(name=name, kind=Kind.RATIO, critical=True),
        series={
            "bad": parse_selector('shop_requests_total{code=~"5.."}'),
            "total": parse_selector("shop_requests_total"),
        },
    )


def a_plan(*, design: Design = Design.CONCURRENT, planned_looks: int = 18) -> Plan:
    return Plan(
        design=design,
        source="pages",
        metrics=(errors_metric(),),
        judge=JudgeSettings(planned_looks=planned_looks, act_uncalibrated=design is Design.BEFORE_AFTER),
        step_s=5.0,
        settle_s=1.0,
        watch_s=planned_looks * 5.0,
        baseline_looks=60,
        rollback_hook="back",
        verify_s=60.0,
    )


def a_deploy(*, deploy_id: str = "d1", strategy: Strategy = Strategy.CANARY, version: str = "v2") -> Deploy:
    return Deploy(
        id=deploy_id,
        service="shop",
        environment="production",
        version=version,
        previous_version="v1",
        strategy=strategy,
        deployed_at=DEPLOYED_AT,
        received_at=DEPLOYED_AT,
        share=0.1 if strategy is Strategy.CANARY else None,
        triggered_by="test",
        body_digest="0" * 64,
    )


def a_watch(*, deploy_id: str = "d1", state: State = State.WATCHING) -> Watch:
    return Watch(
        id=deploy_id,
        deploy=a_deploy(deploy_id=deploy_id),
        plan=a_plan(),
        mode=Mode.AUTO,
        state=state,
        created_at=DEPLOYED_AT,
        updated_at=DEPLOYED_AT,
        next_look_at=DEPLOYED_AT + 6.0,
    )
