"""How long a token takes, learnt from the runs of a model."""

FEW_RUNS = 5
"""Before which nothing is said: one run that others held up would refuse requests."""
FORGOTTEN = 0.1
"""Of all before, with each run."""


class Pace:
    """Thread-seconds a token, of the last ten runs or so, the long ones counting for more."""

    def __init__(self) -> None:
        self._runs = 0
        self._seconds = 0.0
        self._tokens = 0.0

    def learn(self, thread_seconds: float, tokens: int) -> None:
        """From a run; those of a warm-up are not told, since cold ones take several times as long."""
        self._runs += 1
        self._seconds += thread_seconds - FORGOTTEN * self._seconds
        self._tokens += tokens - FORGOTTEN * self._tokens

    @property
    def seconds_per_token(self) -> float:
        """0 while too little is known."""
        return self._seconds / self._tokens if self._runs >= FEW_RUNS else 0.0
