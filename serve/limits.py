"""The limits in force."""

from pydantic import Field

from artifact.config import Config


class Limits(Config):
    """What one request, and all that wait together, may ask for."""

    body_bytes: int = Field(default=1_000_000, gt=0)
    """Longest request body; beyond it 413."""
    body_seconds: float = Field(default=10, gt=0)
    """Longest time a body may take to arrive; beyond it 408."""
    texts: int = Field(default=128, gt=0)
    """Most texts or pairs of one request; beyond it 413."""
    characters: int = Field(default=50_000, gt=0)
    """Longest text, or pair in all; beyond it 413."""
    queue_tokens: int = Field(default=65_536, gt=0)
    """Tokens that may wait for one model, estimated; beyond it 429. A model that is idle takes any request."""
    queue_seconds: float = Field(default=1.5, gt=0)
    """Longest time that what waits may be expected to take; beyond it 429, and an overload begins."""
    overload_seconds: float = Field(default=0.05, gt=0)
    """The same while more is asked for than can be answered: so little that what is accepted is answered soon."""
