"""Whether what the service's file says of cascades and of the shadow fits the models that are served."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifact.errors import ServeError
from serve.config import ServiceConfig
from serve.engine import Problem
from serve.trust.calibration import Calibration, read_calibration
from serve.trust.config import CascadeConfig
from serve.trust.pair import check_pair

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What has to be known of a served model."""

    labels: Sequence[str]
    problem: Problem | None
    digest: str | None
    """Of its bundle; None where it has none."""


def check_trust(models: Mapping[str, Model], config: ServiceConfig) -> dict[str, float]:
    """The threshold of each cascade, by its name.

    Raises `ServeError`: a name that a model has or that no request could write, models that are not served or not of
    the same labels, a calibration of other bundles; `ConfigError` when the calibration does not parse.
    """
    known = dict(models)
    thresholds = {}
    for name, cascade in (config.cascades or {}).items():
        if not NAME.fullmatch(name) or name == "default" or name in {each.partition("/")[0] for each in known}:
            raise ServeError(f"a cascade cannot be called {name!r}", "choose a name of letters that no model has")
        where = f"the cascade {name}"
        student, teacher = _find(models, cascade.student, where), _find(models, cascade.teacher, where)
        check_pair(cascade.student, student, cascade.teacher, teacher)
        thresholds[name] = threshold_of(cascade, student, teacher)
        known[name] = student
    if config.shadow:
        check_pair(
            config.shadow.student, _find(known, config.shadow.student, "the shadow"),
            config.shadow.teacher, _find(models, config.shadow.teacher, "the shadow"),
        )  # fmt: skip
        reference_of(config.shadow.calibration)
    return thresholds


def threshold_of(cascade: CascadeConfig, student: Model, teacher: Model) -> float:
    """As given, or that of the calibration, which must be of these models in these precisions."""
    if cascade.calibration is None:
        return cascade.threshold or 0.0
    found = _read(cascade.calibration)
    for side, member, name, model in (
        ("student", found.student, cascade.student, student),
        ("teacher", found.teacher, cascade.teacher, teacher),
    ):
        same_precision = member.name.partition("/")[2] == name.partition("/")[2]
        if not same_precision or member.digest != model.digest:
            raise ServeError(
                f"{cascade.calibration} was made with the {side} {member.name} of digest {member.digest[:12]}, "
                f"{name} has {(model.digest or 'none')[:12]}",
                "run `understudy calibrate` with the bundles that are served",
            )
    return found.chosen.threshold


def reference_of(calibration: Path | None) -> tuple[float, ...] | None:
    """The confidences of a calibration, ascending; None without one."""
    return _read(calibration).confidences if calibration else None


def _read(path: Path) -> Calibration:
    if not path.is_file():
        raise ServeError(f"there is no calibration {path}", "write it with `understudy calibrate`")
    return read_calibration(path)


def _find(models: Mapping[str, Model], name: str, where: str) -> Model:
    if name not in models:
        raise ServeError(f"{where} names {name!r}, which is not served", f"name one of {', '.join(models)}")
    return models[name]
