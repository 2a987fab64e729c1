from .angles import projection_overlap as projection_overlap
from .frames import orthonormalize as orthonormalize
from .frames import require_frame as require_frame
from .haar import abs_cosine_moments as abs_cosine_moments
from .haar import overlap_moments as overlap_moments
from .pairwise import pairwise_overlap as pairwise_overlap
