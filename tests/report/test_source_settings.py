from __future__ import annotations

from pathlib import Path

import yaml

from tl.report.source_settings import is_aside, is_source, source_settings


def checkpoint(version: Path, **settings: object) -> str:
    (version / "checkpoints").mkdir(parents=True)
    (version / "config.yaml").write_text(yaml.safe_dump(settings))
    return str(version / "checkpoints" / "best.ckpt")


def test_the_configuration_beside_the_checkpoint_tells_seeds_from_settings(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "version_0", seed_everything=0, model={"lr": 0.1})
    alike = checkpoint(tmp_path / "version_1", seed_everything=1, model={"lr": 0.1})
    other = checkpoint(tmp_path / "version_2", seed_everything=2, model={"lr": 0.5})
    assert source_settings(first, None) == source_settings(alike, None)
    assert source_settings(first, None) != source_settings(other, None)
    record = {"sha256": "0a", "data": {"name": "cifar10", "seed": 0}, "reinitialised": ["stem"]}
    same = {"sha256": "1b", "data": {"name": "cifar10", "seed": 1}, "reinitialised": []}
    assert source_settings(first, record) == source_settings(alike, same)
    assert source_settings(first, record) != source_settings(other, same)


def test_a_record_of_the_source_of_a_source_counts() -> None:
    paths = [f"src/version_{n}/best.ckpt" for n in range(2)]
    records = [{"sha256": name, "parent": {"data": {"name": name}}} for name in "ab"]
    assert source_settings(paths[0], records[0]) == source_settings(paths[1], records[0])
    assert source_settings(paths[0], records[0]) != source_settings(paths[1], records[1])


def test_the_seeds_of_a_study_are_one_setting() -> None:
    paths = [f"x/source/seed={n}-{str(n) * 10}/version_{n}/best.ckpt" for n in range(2)]
    assert source_settings(paths[0], None) == source_settings(paths[1], None)


def test_of_a_source_without_any_record_only_the_path_is_known(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"version_{n}" / "checkpoints" / "best.ckpt") for n in range(2)]
    assert source_settings(paths[0], None) != source_settings(paths[1], None)
    damaged = Path(checkpoint(tmp_path / "version_0")).parent.parent / "config.yaml"
    damaged.write_text("- no mapping")
    assert source_settings(paths[0], None) == paths[0]


def test_what_names_a_source_and_what_follows_from_a_seed() -> None:
    assert is_source("model.init_args.init_from")
    assert not is_source("model.init_args.init_heads")
    assert is_aside("data.init_args.seed")
    assert is_aside("trainer.callbacks.0.init_args.dirpath")
    assert not is_aside("model.lr")
