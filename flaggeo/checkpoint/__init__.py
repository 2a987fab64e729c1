"""How tensors are stored: one protocol, one file per format.

`open_checkpoint` takes whatever a person has in hand (a file, a folder, an ``nn.Module``, a state
dict) and returns a `Checkpoint`, which knows every tensor from the headers alone and reads one
tensor, or a block of its rows, when asked.
"""

from .adapter import AdaptedCheckpoint as AdaptedCheckpoint
from .adapter import is_adapter as is_adapter
from .hub import HubError as HubError
from .opening import checkpoints_in as checkpoints_in
from .opening import holds_weights as holds_weights
from .opening import open_checkpoint as open_checkpoint
from .protocol import Checkpoint as Checkpoint
from .protocol import CheckpointError as CheckpointError
from .protocol import Progress as Progress
from .protocol import TensorHeader as TensorHeader
from .protocol import shortened as shortened
