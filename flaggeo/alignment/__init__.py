"""How subspaces of one space lie to each other: one kind of measurement a file, each with its null."""

from .continuity import CONTINUITY_COLUMNS as CONTINUITY_COLUMNS
from .continuity import continuity_table as continuity_table
from .overlap import PAIR_COLUMNS as PAIR_COLUMNS
from .overlap import pair_table as pair_table
