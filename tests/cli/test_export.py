from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

import tl
from tl.cli import main
from tl.transfer import LinearProbe


class SilentTerminal(io.StringIO):
    """A terminal at which nobody answers."""

    def isatty(self) -> bool:
        return True


def test_a_run_becomes_a_folder_that_knows_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = Path(__file__).parents[2] / "configs"
    monkeypatch.chdir(tmp_path)
    main(
        [
            *("fit", f"--config={configs / 'source_cifar10.yaml'}"),
            *(f"--config={configs / 'overlays' / 'quick.yaml'}", "--name=a", "--log_dir=logs"),
            *("--data.init_args.generated_size=60", "--trainer.max_epochs=1"),
            *("--trainer.limit_train_batches=1", "--dashboard.graph=false"),
            "--dashboard.every_n_epochs=0",
            *("--throughput.mfu=false", "--trainer.enable_progress_bar=false"),
            "--model.init_args.strategy=tl.transfer.LinearProbe",
        ]
    )
    capsys.readouterr()
    main(["export", "logs/a", "--out=shipped", "--license=mit"])
    shown = capsys.readouterr()
    assert shown.out.startswith("shipped: model.pt2, model.safetensors, config.json, README.md\n")
    assert "model.pt2 answered as the live model did" in shown.out
    assert "licence" not in shown.err
    run = Path("logs/a/version_0")
    best = json.loads((run / "results.json").read_text())["best"]
    card = Path("shipped/README.md").read_text()
    assert f"| {best['monitor']} | {best['score']:.4g} | - |" in card
    assert f"Strategy `{LinearProbe.__name__}`" in card
    assert "| layer1 | frozen |" in card
    Image.effect_noise((40, 30), 90).convert("RGB").save("photo.png")
    code = card.split("With `tl`:")[1].split("```python\n")[1].split("```")[0]
    exec(code.replace("FOLDER", "shipped"), {})  # noqa: S102 - our own
    said = capsys.readouterr().out
    assert said.startswith("Prediction(")
    assert repr(tl.load(run).predict("photo.png")) == said.strip()
    monkeypatch.setattr("sys.stdin", SilentTerminal())
    main(["export", "logs/a", "--out=again"])
    assert "the card states no licence; give one by --license" in capsys.readouterr().err
    monkeypatch.setattr("torch.export.export", lambda *_, **__: 1 / 0)
    assert main(["export", "logs/a", "--out=partly", "--license=mit"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tl: model.pt2 was not written: torch.export cannot take ResNet20: ")
    assert line.endswith("Written: model.safetensors, config.json, README.md.")
    assert main(["export", "logs/a", "--out=shipped"]) == 2
    assert "shipped exists and is not an empty folder" in capsys.readouterr().err
