"""The cascades of the service's file, over the lanes of its models."""

from collections.abc import Mapping

from serve.batching.lane import Lane
from serve.config import ServiceConfig
from serve.trust.cascade import Cascade, CascadeEngine
from serve.trust.check import Model, check_trust
from serve.trust.metrics import TrustMetrics


def add_cascades(lanes: Mapping[str, Lane], config: ServiceConfig, metrics: TrustMetrics) -> dict[str, Lane]:
    """`lanes` and, under their names, the cascades of `config` over them; raises as `check_trust`.

    Call it anew for every new set of lanes. A cascade stands behind what it is made of, so that nobody takes it for the
    default, and has to be drained before its models are.
    """
    models = {name: model_of(lane) for name, lane in lanes.items()}
    thresholds = check_trust(models, config)
    made: dict[str, Lane] = dict(lanes)
    for name, threshold in thresholds.items():
        asked = (config.cascades or {})[name]
        student, teacher = lanes[asked.student], lanes[asked.teacher]
        engine = CascadeEngine(name=name, student=student.engine, teacher=teacher.engine, threshold=threshold)
        made[name] = Cascade(engine, student, teacher, metrics, degrade=asked.degrade)
    return made


def model_of(lane: Lane) -> Model:
    """What its engine says of itself."""
    engine = lane.engine
    return Model(labels=engine.labels, problem=engine.problem, digest=getattr(engine, "digest", None))
