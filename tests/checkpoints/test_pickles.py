from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from tl.checkpoints.pickles import refused_globals


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_runs_code_is_named_and_what_is_harmless_is_not(
    protocol: int, *, zipped: bool
) -> None:
    file = io.BytesIO()
    torch.save(
        {"state": OrderedDict(a=torch.ones(2)), "path": Path("a")},
        file,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    file.seek(0)
    [name] = refused_globals(file)
    assert name.startswith("pathlib.")


def test_a_broken_pickle_names_what_it_had_named_before() -> None:
    whole = pickle.dumps(Path("a"), protocol=0)
    assert any("Path" in name for name in refused_globals(io.BytesIO(whole[:-3])))
