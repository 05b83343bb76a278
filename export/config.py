"""What a recipe says about exporting: precisions, target instruction set, and how exact the graph must be."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from artifact.config import Config

Precision = Literal["float32", "int8"]
InstructionSet = Literal["avx2", "avx512", "vnni", "arm64", "arm64_dotprod"]
Target = Literal["host", InstructionSet]


class Parity(Config):
    """The grid on which every graph is compared with its source model, and the bounds it must keep."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 2, 7, 32), min_length=1)
    """Texts in one run."""
    lengths: tuple[Annotated[int, Field(ge=2)], ...] = (2, 3, 15, 16, 17)
    """Tokens, special ones included; the model's `max_tokens` is always added, and longer ones are left out."""
    max_cell_tokens: int = Field(default=2048, ge=1)
    """Padded tokens (texts x length) above which a cell is left out; the smallest batch is never left out."""
    float32_max_abs_error: float = Field(default=1e-4, gt=0)
    """Largest difference of any logit or embedding component, float32 graph against PyTorch."""
    int8_min_cosine: float = Field(default=0.90, gt=0, le=1)
    """Smallest cosine between the int8 graph's and PyTorch's embedding, over the grid."""


class ExportConfig(Config):
    """How models become bundles."""

    opset: int = Field(default=17, ge=14, le=21)
    """Version of the ONNX operator set."""
    precisions: tuple[Precision, ...] = ("float32", "int8")
    """The first is always `float32`: the others are made from it."""
    target: Target = "host"
    """Instruction set the int8 weights are made for; `host` detects this machine's and records it."""
    parity: Parity = Parity()
    """How the graphs are compared with their source."""

    @model_validator(mode="after")
    def _float32_comes_first(self) -> Self:
        if self.precisions[:1] != ("float32",) or len(set(self.precisions)) != len(self.precisions):
            raise ValueError(f"precisions must start with float32 and name each one once, found {self.precisions}")
        return self
