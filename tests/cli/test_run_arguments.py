from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from tl.cli.run_arguments import add_run_arguments


def test_a_run_has_a_name_a_folder_and_its_loggers() -> None:
    parser = LightningArgumentParser()
    add_run_arguments(parser)
    found = parser.parse_args(["--name=mine", "--resume=auto"])
    assert (found.name, found.log_dir, found.log) == ("mine", "lightning_logs", "tensorboard,csv")
    assert found.resume == "auto"
    assert parser.parse_args([]).resume is None
