"""Several processes for one command, as `accelerate launch` starts them: the first runs it, the others help it train.

Only the first holds locks, clears, announces and seals. It tells the others, step by step, whether there is something
to train. docs/scale.md has the commands.
"""

import os

from artifact.errors import ConfigError
from pipeline.stages import Step


def is_helper() -> bool:
    """Whether this process is not the first."""
    return int(os.environ.get("RANK", "0")) > 0


def check_command(command: str) -> None:
    """`ConfigError` for a command that has no use for several processes."""
    size = _size()
    if size > 1 and command != "distill":
        raise ConfigError(f"`{command}` runs in one process, found {size}", "launch `distill` only, then run it alone")


def agree(*, trains: bool = False) -> bool:
    """What the first process says: whether the step at hand is to be trained. Waits for all of them."""
    if _size() == 1:
        return trains
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState()
    said = [trains]
    broadcast_object_list(said)
    return said[0]


def help_train(step: Step) -> None:
    """Take part in the work of `step`, unless it is done already; what was measured is the first process's to keep."""
    if step.command != "distill" or not agree():
        return
    stage, work = step.make()
    work(stage.out)


def _size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
