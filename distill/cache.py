"""What a teacher shows of a training split, computed once."""

from distill.batch import Batch
from distill.capture import Seen


class TeacherCache:
    """Placeholder until the shards are written."""

    def seen(self, batch: Batch) -> Seen:
        """What the teacher showed of these texts."""
        raise NotImplementedError
