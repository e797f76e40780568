"""Options of a run that are not its Trainer's, its model's or its data's."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch.cli import LightningArgumentParser


def add_run_arguments(parser: LightningArgumentParser) -> None:
    """Add name, folder, loggers and resuming of a run."""
    parser.add_argument(
        "--name",
        type=str,
        default="run",
        help="Name of the run; its versions are saved in a folder of this name.",
    )
    parser.add_argument("--log_dir", type=str, default="lightning_logs", help="Folder for runs.")
    parser.add_argument(
        "--log",
        type=str,
        default="tensorboard,csv",
        help="Loggers: tensorboard and csv, which every run has, and wandb, mlflow.",
    )
    parser.add_argument(
        "--resume",
        type=Literal["auto"] | None,
        default=None,
        help="auto: fit resumes from the newest valid checkpoint of this --name.",
    )
