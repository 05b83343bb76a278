"""`understudy calibrate`: two bundles and a file of texts in, `calibration.json` out."""

from pathlib import Path
from typing import Any

from artifact.digest import hash_file
from artifact.errors import ServeError
from artifact.manifest import write_json
from artifact.progress import say
from serve.bundle import open_bundle
from serve.runtime import Runtime
from serve.trust.calibration import Calibration, calibrate
from serve.trust.texts import read_texts

PREFERRED = "int8"
"""Precision of a student that has it: what is served by default."""


def calibrate_files(
    student: Path,
    teacher: Path,
    texts: Path,
    out: Path,
    *,
    level: float,
    student_precision: str | None = None,
    teacher_precision: str | None = None,
) -> dict[str, Any]:
    """Write the calibration to `out` and return it without its tables; raises `UnderstudyError`.

    Left out, the precisions are int8 of the student, where it has that, and the first of the teacher.
    """
    held_out = read_texts(texts)
    found = calibrate(
        open_student(student, student_precision),
        Runtime.open(teacher, teacher_precision),
        held_out,
        level=level,
        texts_digest=hash_file(texts),
    )
    _write(out, found)
    chosen = found.chosen
    if not chosen.answered_share:
        say("no text is the student's to answer: at any lower threshold too many disagree for that level")
    say(f"the student answers {chosen.answered_share:.1%} alone, where its confidence is above {chosen.threshold:.6f}")
    say(f"agreement {chosen.agreement:.2%} of {found.texts} texts, at least {chosen.agreement_low:.2%}")
    say(f"written  {out}")
    return found.model_dump(mode="json", exclude={"frontier", "confidences"})


def open_student(directory: Path, precision: str | None) -> Runtime:
    """The student in the precision asked for, else as it is served by default."""
    bundle = open_bundle(directory)
    usual = PREFERRED if PREFERRED in bundle.info.precisions else None
    return Runtime.open(bundle, precision or usual)


def _write(out: Path, found: Calibration) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServeError(f"cannot write {out}: {error.strerror}", "choose another file with --out") from None
    write_json(out, found.model_dump(mode="json"))
