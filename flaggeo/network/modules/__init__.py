"""Any module as a network: its layers are watched in a forward pass, and it is asked which of them share a space.

A layer is whatever applies a parameter as a linear map, a convolution or a table, by whichever function of torch. Two
layers share a space if a change of some channels that the one writes changes the same channels of what the other reads,
and no others, all other layers being held as they are.
"""

from .example import Example as Example
from .reading import load_module as load_module
from .reading import read_module as read_module
