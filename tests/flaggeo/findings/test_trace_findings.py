"""Which roles a trace names as the last to move."""

import pytest
import torch

from flaggeo.findings import trace_findings
from flaggeo.tracing import trace
from tests.builders import tiny_llama


@pytest.mark.parametrize(
    ("early", "named"), [(("k", "v", "o", "gate", "up", "down"), {"q"}), (("q",), set())], ids=["one", "most"]
)
def test_the_last_roles_to_move_are_named_unless_they_are_most(early, named):
    generator = torch.Generator().manual_seed(0)

    def moved(tensors, roles):
        return {
            name: torch.randn(tensor.shape, generator=generator)
            if any(f".{role}_proj." in name for role in roles)
            else tensor
            for name, tensor in tensors.items()
        }

    first = tiny_llama()
    late = {"q", "k", "v", "o", "gate", "up", "down"} - set(early)
    run = [first, second := moved(first, early), moved(second, late)]
    found = trace_findings(trace(run, steps=[0, 1, 2], rank=2))
    [drift] = [finding for finding in found if finding.kind == "drift"]
    assert {row["role"] for row in drift.numbers["latest"]} == named
