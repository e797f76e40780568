"""``tl --help`` and ``tl fit --help``: one screen each, printed without importing torch."""

from __future__ import annotations

from collections.abc import Sequence

from tl.cli.listing import KINDS
from tl.cli.verbs import VERBS, verb_of

#: Lightning's verbs, each with a line.
DESCRIPTIONS = {
    "fit": "Train a model.",
    "validate": "Evaluate a checkpoint on the validation data.",
    "test": "Evaluate a checkpoint on the test data.",
    "predict": "Write a checkpoint's predictions to predictions.csv.",
}
_START = {
    "fit": (
        "tl fit --config FILE [--config OVERLAY] [options]",
        "tl fit FOLDER|TABLE [--from RUN] [options]",
    ),
    "validate": ("tl validate RUN [options]", "tl validate --config FILE [options]"),
    "test": ("tl test RUN [options]", "tl test --config FILE [options]"),
    "predict": ("tl predict RUN [PATH...] [options]", "tl predict --config FILE [options]"),
}
_TRAINING = (
    ("--epochs N", "length of training"),
    ("--model.init_from CHECKPOINT", "start from a source's weights"),
    ("--from RUN", "start from a run's weights; with FOLDER by its recipe too"),
    ("--strategy NAME", "what moves and what is kept: `tl list transfer`"),
    ("--balancer NAME", "how tasks share: `tl list balancing`"),
    ("--model.KEY VALUE", "any option of the model's class"),
    ("--name NAME, --log_dir DIR", "the run goes to DIR/NAME/version_N"),
    ("--log wandb,mlflow", "Weights & Biases, MLflow beside TensorBoard"),
    ("--resume auto", "resume the newest run of this name, or start one"),
    ("--seed_everything N", "seed of weights, order and augmentation"),
)
_TESTING = (("--shifts NAMES", "also test under shifts: all, noise, blur, fog, ..."),)
_COMMON = (
    ("--config FILE", "configuration; later ones override it, `key+:` appends to a list"),
    ("--ckpt_path FILE", "checkpoint to resume (fit) or to evaluate"),
    ("--data.root DIR", "where the data lie"),
    ("--data.KEY VALUE", "any option of the data's class: batch_size, label_fraction, ..."),
    ("--trainer.accelerator NAME", "auto, cpu, gpu"),
    ("--trainer.devices N", "how many of them"),
    ("--trainer.precision P", "32-true, bf16-mixed, ...; by default bf16 where a GPU supports it"),
    ("--model.help CLASS", "options of a class, such as tl.modules.TransferModule"),
    ("--help-all", "every option"),
)


def help_of(arguments: Sequence[str]) -> str | None:
    """Return the page that a command line asks for; ``None`` if it asks for none of these."""
    if not {"-h", "--help"} & {*arguments}:
        return None
    verb = verb_of(arguments)
    if verb is None:
        return overview()
    if verb in DESCRIPTIONS and arguments[-1] in ("-h", "--help"):
        return page_of(verb)
    return None


def overview() -> str:
    """Return the verbs, each with a line."""
    verbs = {**DESCRIPTIONS, **{name: verb.help for name, verb in VERBS.items()}}
    width = max(map(len, verbs))
    lines = [f"  {name:{width}}  {text}" for name, text in verbs.items()]
    return "\n".join(
        [
            "usage: tl VERB [options]     (or: python -m tl.cli VERB [options])",
            "",
            "Transfer learning and multi-task learning.",
            "",
            *lines,
            "",
            "start:   tl fit --config configs/multitask.yaml --config configs/overlays/quick.yaml",
            "your own:  tl new DIR",
            f"in the box:  tl list {'|'.join(KINDS)}",
            "more:    tl VERB --help, tl --version",
        ]
    )


def rows_of(verb: str) -> tuple[tuple[str, str], ...]:
    """Return the options that people use with one of Lightning's verbs, each with a line."""
    own = {"fit": _TRAINING, "test": _TESTING}
    return (*own.get(verb, ()), *_COMMON)


def page_of(verb: str) -> str:
    """Return the options that people use with one of Lightning's verbs."""
    rows = rows_of(verb)
    width = max(len(option) for option, _ in rows)
    return "\n".join(
        [
            f"usage: {_START[verb][0]}",
            *(f"       {start}" for start in _START[verb][1:]),
            "",
            DESCRIPTIONS[verb],
            "",
            *(f"  {option:{width}}  {text}" for option, text in rows),
        ]
    )
