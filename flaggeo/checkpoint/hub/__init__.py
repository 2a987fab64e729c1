"""Repositories on the Hugging Face Hub: headers are read there, and files are fetched when their numbers are needed.

Needs the extra ``flaggeo[hub]``, which is imported when a repository is opened.
"""

from .address import Address as Address
from .address import address_in as address_in
from .checkpoint import HubCheckpoint as HubCheckpoint
from .checkpoint import open_repository as open_repository
from .repository import HubError as HubError
