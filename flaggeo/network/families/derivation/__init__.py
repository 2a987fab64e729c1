"""What the weights of a model do, found by running tiny models of transformers: no name and no layout is known here."""

from .parts import DerivationError as DerivationError
from .tiny import model_types as model_types
from .variants import derive as derive
from .variants import usual_switches as usual_switches
