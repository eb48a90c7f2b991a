"""Memory that runs out, as the user of the command line sees it."""

import json

import torch

from embed.encoders.esm2 import Esm2


def test_a_lone_sequence_that_does_not_fit_is_named_with_exit_code_1(bindcache, config, tmp_path, monkeypatch):
    """Everything else is in the store, and a larger device would have that one sequence left to do."""
    here = ("--config", config, "--set", f"embed.store={tmp_path / 'store'}")
    forward, largest = Esm2.forward, []

    def tight(self, batch):
        largest.append(batch.size)
        if batch.size > 250:
            raise torch.OutOfMemoryError("fake")
        return forward(self, batch)

    monkeypatch.setattr(Esm2, "forward", tight)
    failed = bindcache("embed", *here)
    assert failed.exit_code == 1
    assert failed.stderr.startswith("Error: Sequences that do not fit in memory even alone: ")
    assert "antigen of " in failed.stderr
    assert "everything else is in the store" in failed.stderr
    lost = int(failed.stderr.split(": ")[2].split(" ")[0])
    assert max(largest) > 250
    monkeypatch.setattr(Esm2, "forward", forward)
    assert json.loads(bindcache("embed", *here, "--json").stdout)["embedded"] == lost
