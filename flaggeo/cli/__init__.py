"""The commands, one file each."""

from .main import main as main
