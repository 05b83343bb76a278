"""What a recipe says about exporting: precisions, target instruction set, and how exact the graph must be."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from artifact.config import Config

Precision = Literal["float32", "int8", "int8-static", "int8-blocks", "int4-blocks", "float16"]
InstructionSet = Literal["avx2", "avx512", "vnni", "arm64", "arm64_dotprod"]
Target = Literal["host", InstructionSet]
Weighting = Literal["equal", "svm"]
"""How layers weigh in an out-of-domain gate: alike, or as a one-class machine says (Xu et al.)."""


class Parity(Config):
    """The grid on which every graph is compared with its source model, and the bounds it must keep."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 2, 7, 32), min_length=1)
    """Texts in one run."""
    lengths: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 15, 16, 17, 128)
    """Tokens, special ones included; the model's `max_tokens` is always added, and longer ones are left out."""
    max_cell_tokens: int = Field(default=16384, ge=1)
    """Padded tokens (texts x length) above which a cell is left out; the smallest batch is never left out."""
    float32_max_abs_error: float = Field(default=1e-4, gt=0)
    """Largest difference of any output's component, float32 graph against PyTorch, and of a text alone against itself
    in a padded batch."""
    float16_min_cosine: float = Field(default=0.999, gt=0, le=1)
    """Smallest cosine between the graph's and PyTorch's embedding, over the grid."""
    int8_min_cosine: float = Field(default=0.85, gt=0, le=1)
    """The same for dynamic int8, whose scales span a batch: the grid's largest, of random tokens, is its worst case."""
    int8_static_min_cosine: float = Field(default=0.90, gt=0, le=1)
    """The same for static int8."""
    int8_blocks_min_cosine: float = Field(default=0.98, gt=0, le=1)
    """The same for blocks of eight bits."""
    int4_blocks_min_cosine: float = Field(default=0.50, gt=0, le=1)
    """The same for blocks of four bits; quality on real text is another question, and `quality` in the facts."""

    def min_cosine(self, precision: Precision) -> float | None:
        """The bound of `precision`; none for float32, which is held to its largest error."""
        return None if precision == "float32" else float(getattr(self, min_cosine_field(precision)))


def min_cosine_field(precision: Precision) -> str:
    """Name of the field that bounds `precision`."""
    return f"{precision.replace('-', '_')}_min_cosine"


class CalibrationConfig(Config):
    """Texts that ranges are learnt from and that every precision is judged on."""

    texts: int = Field(default=256, gt=0)
    """Texts whose activations set the ranges of `int8-static`: training texts, evenly spaced."""
    methods: tuple[Literal["minmax", "percentile", "entropy"], ...] = Field(
        default=("minmax", "percentile", "entropy"), min_length=1
    )
    """Ways to set the ranges; the one whose graph has the best quality is kept."""
    judged_texts: int = Field(default=2000, gt=0)
    """Texts on which quality is measured: of the validation split, evenly spaced."""


class InvarianceConfig(Config):
    """How far an answer may depend on who shares its batch."""

    texts: int = Field(default=256, gt=1)
    """Texts that are asked alone and in company; of those that quality is measured on, evenly spaced."""
    batch_size: int = Field(default=32, gt=1)
    """Texts in a shared batch."""
    compositions: int = Field(default=8, gt=0)
    """Times all texts are shuffled into batches."""
    strict: tuple[Precision, ...] = ("float32", "int8-static", "int8-blocks", "int4-blocks")
    """Precisions that must keep the bounds below; the others are measured only."""
    max_flips: int = Field(default=0, ge=0)
    """Labels of a strict precision that may differ in company."""
    min_cosine: float = Field(default=0.999, gt=0, le=1)
    """Smallest cosine of a strict precision's embedding in company to its own alone."""


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
    calibration: CalibrationConfig = CalibrationConfig()
    """What ranges are learnt from, and quality is measured on."""
    min_quality: float | None = Field(default=0.995, gt=0, le=1)
    """Share of float32's quality that `int8` must keep: nodes stay in float32 until it does. None: whatever comes."""
    invariance: InvarianceConfig = InvarianceConfig()
    """How the graphs are compared with themselves in company."""

    @model_validator(mode="after")
    def _float32_comes_first(self) -> Self:
        if self.precisions[:1] != ("float32",) or len(set(self.precisions)) != len(self.precisions):
            raise ValueError(f"precisions must start with float32 and name each one once, found {self.precisions}")
        return self
