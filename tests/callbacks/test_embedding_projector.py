from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from tests.small import multitask_module, trainer, two_sources
from tl.callbacks import EmbeddingProjector


def test_each_source_has_a_cloud_with_classes_and_pictures(tmp_path: Path) -> None:
    data = two_sources(val_size=0.3)
    logger = TensorBoardLogger(str(tmp_path), "run")
    run = trainer(tmp_path, logger=logger, max_epochs=1, callbacks=[EmbeddingProjector(images=12)])
    run.fit(multitask_module(data), data)
    folder = Path(logger.log_dir)
    config = (folder / "projector_config.pbtxt").read_text()
    assert "features/ten" in config
    assert "features/hundred" in config
    [ten] = [p for p in folder.rglob("metadata.tsv") if "ten" in str(p)]
    names = ten.read_text().splitlines()
    assert len(names) == 12
    assert set(names) <= set(data.class_names["ten"])
    [hundred] = [p for p in folder.rglob("metadata.tsv") if "hundred" in str(p)]
    assert hundred.read_text().splitlines()[0] == "hundred_fine\thundred_coarse"
    assert len(list(folder.rglob("sprite.png"))) == 2
    [tensors] = [p for p in folder.rglob("tensors.tsv") if "ten/" in str(p)]
    assert len(tensors.read_text().splitlines()[0].split("\t")) == 8


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="`images` must be 1 or more, got 0"):
        EmbeddingProjector(images=0)
