"""How token states become one vector a text: as the model's own files say, or the mean at unit length."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor, nn

from artifact.errors import ExportError

Mode: TypeAlias = Literal["mean", "cls", "max"]

_FLAGS: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
"""The form before sentence-transformers 5.2, which every version reads; since then it is one field, `pooling_mode`."""

_KNOWN = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class Pooling:
    """What is done with the last hidden state."""

    mode: Mode = "mean"
    normalize: bool = True
    """Scale to unit length."""

    def __call__(
        self, hidden: Float[Tensor, "batch seq hidden"], attention_mask: Int[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch hidden"]:
        """One vector a text, padding left out; a text of which nothing is kept gets zeros, unless `cls` is taken."""
        pooled = _pool(self.mode, hidden, attention_mask.unsqueeze(-1).to(hidden.dtype))
        return nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled


def _pool(
    mode: Mode, hidden: Float[Tensor, "batch seq hidden"], kept: Float[Tensor, "batch seq 1"]
) -> Float[Tensor, "batch hidden"]:
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        # A finite floor, added: -inf times 0 is NaN, and a selection by mask is another operator to fuse around.
        highest = (hidden * kept + (1 - kept) * -1e9).amax(dim=1)
        return highest * kept.amax(dim=1)
    return (hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)


def read_pooling(directory: Path) -> Pooling:
    """The pooling of the model in `directory`; without `modules.json` the mean at unit length.

    Raises `ExportError` for a module or a mode that a graph of ours would silently leave out.
    """
    path = directory / "modules.json"
    if not path.is_file():
        return Pooling()
    modules = _read(path)
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    unknown = [kind for kind in kinds if kind not in _KNOWN]
    if unknown:
        hint = f"the graph can hold {', '.join(_KNOWN)}"
        raise ExportError(f"{path} asks for {', '.join(unknown)}, which we do not export", hint)
    if "Pooling" not in kinds:
        return Pooling(normalize="Normalize" in kinds)
    config = directory / modules[kinds.index("Pooling")]["path"] / "config.json"
    return Pooling(mode=_read_mode(config), normalize="Normalize" in kinds)


def pooling_config(pooling: Pooling, hidden: int) -> dict[str, Any]:
    """`1_Pooling/config.json` of sentence-transformers for this pooling."""
    modes = {flag: mode == pooling.mode for flag, mode in _FLAGS.items()}
    return {"word_embedding_dimension": hidden, **modes, "include_prompt": True}


def _read_mode(path: Path) -> Mode:
    settings = _read(path)
    stated = settings.get("pooling_mode")
    asked = [stated] if isinstance(stated, str) else stated or [
        _FLAGS.get(name, name) for name, value in settings.items() if name.startswith("pooling_mode_") and value is True
    ]  # fmt: skip
    for mode in _FLAGS.values():
        if asked == [mode]:
            return mode
    found = ", ".join(asked) or "no pooling mode"
    raise ExportError(f"{path} asks for {found}", f"expected one of {', '.join(_FLAGS.values())}")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot read {path}: {error}") from None
