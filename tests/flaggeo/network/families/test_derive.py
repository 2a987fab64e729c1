"""The table of records against what its command derives from the installed transformers."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from flaggeo.network.families.table import load_table, parse

transformers = pytest.importorskip("transformers")
SAME_VERSION = pytest.mark.skipif(
    transformers.__version__ != load_table().transformers,
    reason="the table is that of another version of transformers",
)


def derived(*model_types, writes):
    """What the command writes for some model types, or for all."""
    code = (
        "import sys; from pathlib import Path; from flaggeo.network.families import derive\n"
        "if __name__ == '__main__':\n"
        f" derive.TABLE = Path({str(writes)!r}); derive.main(sys.argv[1:])"
    )
    script = writes.with_name("derive.py")
    script.write_text(code)
    command = [sys.executable, str(script), *model_types]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout
    return out if model_types else writes.read_text()


@SAME_VERSION
def test_a_sample_of_the_table_is_what_is_derived(tmp_path):
    sample = ("llama", "resnet", "t5", "mobilenet_v1")
    found = parse(derived(*sample, writes=tmp_path / "table.json"))
    for model_type in sample:
        ours, expected = (
            sorted(
                repr(replace(record, model_types=())) for record in table.records if model_type in record.model_types
            )
            for table in (found, load_table())
        )
        assert ours == expected
        assert found.not_derived.get(model_type) == load_table().not_derived.get(model_type)


@SAME_VERSION
@pytest.mark.slow
def test_the_table_is_what_is_derived(tmp_path):
    found = parse(derived(writes=tmp_path / "table.json"))
    assert found.records == load_table().records
    reasons = {name: {reason, load_table().not_derived.get(name)} for name, reason in found.not_derived.items()}
    assert reasons.keys() == load_table().not_derived.keys()
    # How long a processor takes is not for the table to say.
    assert [
        name for name, both in reasons.items() if len(both) > 1 and not any("TimeoutError" in one for one in both)
    ] == []
