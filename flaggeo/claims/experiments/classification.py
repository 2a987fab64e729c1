"""A chain of weights that classifies, trained with ridge: its interfaces, and the Neural Collapse of its features."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...training.collapse import collapse
from ...training.models import Chain, Parameters
from ...training.tasks import Task
from .ridge import RidgeExperiment

_NUMBERS = {
    "spread": "spread of the last features within classes over that between them (NC1)",
    "unequal_norms": "spread of the norms of the class means over their mean (NC2)",
    "unequal_angles": "distance of the cosines of class means from those of a simplex (NC2)",
    "classifier": "distance of the classifier from the class means, both of norm 1 (NC3)",
    "other_class": "share of samples in another class than that of the nearest mean (NC4)",
}


@dataclass(frozen=True)
class ClassificationExperiment(RidgeExperiment):
    """The same chain and numbers, and those of Neural Collapse on the samples that it was trained on."""

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of every interface, then of the last features."""
        return {**super().numbers, **_NUMBERS}

    def _at_the_end(self, model: Chain, parameters: Parameters, task: Task) -> dict[str, Tensor]:
        _, hidden = model.traced(parameters, task.inputs)
        found = collapse(hidden[-1][1], task.targets, parameters[model.names[-1]])
        return super()._at_the_end(model, parameters, task) | vars(found)
