"""The card of an exported model: a README written from what its run recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tl.counting import counted
from tl.serving.run_scores import RunScores

_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
_FEW = 10  # class names that the table shows


@dataclass(frozen=True)
class ModelCard:
    """What a card is written from.

    Args:
        name: Title.
        config: What ``config.json`` holds.
        licence: Licence of the weights; ``None`` if nobody stated one.
        files: Names of the files beside the card.
        problems: Why a format is missing, a line each.
        scores: What was measured.
        lineage: Where the weights came from, as text.
        frozen: What trained when, as Markdown.
    """

    name: str
    config: Mapping[str, Any]
    licence: str | None
    files: Sequence[str]
    problems: Sequence[str]
    scores: RunScores
    lineage: str
    frozen: str

    def text(self) -> str:
        """Return the card as Markdown, with the header of the Hugging Face Hub."""
        parts = (
            self._header(),
            f"# {self.name}",
            self._summary(),
            "## Tasks",
            "\n".join(self._tasks()),
            "## Scores",
            "\n".join(self._scores()),
            "## Data",
            "\n".join(self._data()),
            "## Training",
            self.frozen,
            "Where the weights came from, the newest first:",
            f"```text\n{self.lineage}\n```",
            "## Use it",
            *self._use(),
            "## Licence",
            self._licence(),
        )
        return "\n\n".join(part for part in parts if part) + "\n"

    def _header(self) -> str:
        tags = "".join(f"\n- {tag}" for tag in ("tl", "transfer-learning", "multi-task-learning"))
        # JSON's string is YAML's
        licence = json.dumps(self.licence or "unknown", ensure_ascii=False)
        return f"---\nlicense: {licence}\nlibrary_name: tl\ntags:{tags}\n---"

    def _summary(self) -> str:
        config = self.config
        network = config["architecture"]
        count = len(config["tasks"])
        return (
            f"A {network['name']} with {network['parameters']:,} parameters, trained by "
            f"tl {config['versions']['tl']} to answer "
            f"{counted(count, 'task')}. Checkpoint {config['checkpoint']['file']}, "
            f"epoch {config['checkpoint']['epoch']} (counted from 0), step "
            f"{config['checkpoint']['step']}, sha256 `{config['checkpoint']['sha256']}`."
        )

    def _tasks(self) -> Iterator[str]:
        yield "| task | answers | shape of an answer | classes |"
        yield "| --- | --- | --- | --- |"
        for name, task in self.config["tasks"].items():
            classes = task["class_names"] or []
            more = f", ... ({len(classes)} in `config.json`)" if len(classes) > _FEW else ""
            shape = (
                "-" if task["shape"] is None else f"(N{''.join(f', {n}' for n in task['shape'])})"
            )
            yield f"| {name} | {task['answers']} | {shape} | {', '.join(classes[:_FEW])}{more} |"

    def _scores(self) -> Iterator[str]:
        scores = self.scores
        if not scores.metrics:
            yield "The checkpoint records no scores."
            return
        yield "| metric | this checkpoint | over seeds |"
        yield "| --- | --- | --- |"
        for name, value in sorted(scores.metrics.items()):
            yield f"| {name} | {value:.4g} | {_seeds(scores, name)} |"
        yield ""
        if scores.study is not None and scores.seeds:
            yield (
                f"Seeds are those of the study *{scores.study}*: mean and 95 % interval by "
                "Student's t."
            )
        elif scores.study is None:
            yield "One run with one seed; how much the seed changes was not measured."
        if not any(name.startswith("test/") for name in scores.metrics):
            why = (
                f"its last test was with {scores.set_aside}, which is not how it answers here. "
                "`tl test RUN` tests it as it is"
                if scores.set_aside
                else "this checkpoint was not tested"
            )
            yield (
                f"There are no test scores: {why}. Validation scores chose it and are therefore "
                "optimistic."
            )

    def _data(self) -> Iterator[str]:
        if not self.config["data"]:
            yield "The checkpoint does not describe its data."
            return
        for name, part in self.config["data"].items():
            kind = part.get("kind")
            said = "**synthetic** images" if kind == "generated" else f"{kind} data"
            yield f"- **{name}**: {said}, fingerprint `{part.get('fingerprint')}`"
            counts = part.get("images") or part.get("samples") or {}
            if counts:
                splits = ", ".join(f"{count:,} {split}" for split, count in counts.items())
                yield f"    - samples: {splits}"
            for key in ("label_fraction", "val_size", "seed", "image_size"):
                if part.get(key) is not None:
                    yield f"    - {key}: {part[key]}"
            if deep := part.get("pixel_range"):
                low, high = deep
                yield (
                    f"    - pixel_range: {list(deep)}; in images of more than 8 bits per channel "
                    f"{low:g} becomes black and {high:g} white"
                )

    def _use(self) -> Iterator[str]:
        samples = {"images": '"photo.png"', "texts": '"a text"'}
        code = ['model = tl.load("FOLDER")', "print(model)"]
        if self.config["kind"] in samples:
            code[1] = f"print(model.predict({samples[self.config['kind']]}{self._source()}))"
        if self.config["network"] is None:
            yield "The network was built by a script: `tl.load` needs it as `backbone`."
            code[0] = 'model = tl.load("FOLDER", backbone=network)'
        yield "With `tl`:"
        yield "```python\n" + "\n".join(["import tl", "", *code]) + "\n```"
        for problem in self.problems:
            yield f"Note: {problem}"
        if self.config["source"] is not None and len(self.config["data"]) > 1:
            yield (
                f"Without `tl`, only the tasks of the source {self.config['source']} answer: those "
                "whose answers have a shape in the table."
            )
        if "model.pt2" in self.files:
            yield (
                "Without `tl`, with torch only. `torch.export.load` can run code from the file: "
                "load `model.pt2` only if you trust its author; `model.safetensors` holds no code."
            )
            yield f"```python\n{self._without_tl()}\n```"
        if "model.onnx" in self.files:
            inputs = ", ".join(f"`{part['name']}`" for part in self.config["inputs"])
            yield (
                f"`model.onnx` takes {inputs} and gives an output per task, named after it; class "
                "names are in its metadata, `class_names`."
            )

    def _source(self) -> str:
        sources = list(self.config["data"])
        return f', source="{self.config["source"] or sources[0]}"' if len(sources) > 1 else ""

    def _without_tl(self) -> str:
        """Return code that reads an input and prints the answers."""
        run = [
            'program = torch.export.load("FOLDER/model.pt2").module()',
            "with torch.no_grad():",
            f"    answers = program({'inputs' if self.config['kind'] != 'images' else 'pixels'})",
        ]
        show = [
            'tasks = json.load(open("FOLDER/config.json"))["tasks"]',
            "for task, answer in answers.items():",
            "    names = tasks[task]['class_names']",
            "    single = names and answer.ndim == 2  # not a map of classes",
            "    print(task, names[answer[0].argmax().item()] if single else tuple(answer.shape))",
        ]
        if self.config["kind"] == "images":
            height, width, _ = self.config["inputs"][0]["shape"]
            read = [
                'image = ImageOps.exif_transpose(Image.open("photo.png"))',
                *self._deep(),
                'image = image.convert("RGB")',
                f"image = ImageOps.fit(image, ({width}, {height}), Image.Resampling.BICUBIC)",
                "pixels = torch.tensor(np.asarray(image))[None]  # (N, H, W, 3) uint8",
            ]
            imports = ["import json", "", "import numpy as np", "import torch"]
            return "\n".join([*imports, "from PIL import Image, ImageOps", "", *read, *run, *show])
        if self.config["kind"] == "texts":
            parts = dict(zip(_TOKENS, ("ids", "attention_mask", "type_ids"), strict=True))
            read = [
                'tokens = Tokenizer.from_file("FOLDER/tokenizer.json").encode("a text")',
                "inputs = {",
                *(
                    f'    "{p["name"]}": torch.tensor([tokens.{parts[p["name"]]}]),'
                    for p in self.config["inputs"]
                ),
                "}",
            ]
            imports = ["import json", "", "import torch", "from tokenizers import Tokenizer"]
            return "\n".join([*imports, "", *read, *run, *show])
        zeros = {part["name"]: _zeros(part) for part in self.config["inputs"]}
        inputs = next(iter(zeros.values()))
        if self.config["named_inputs"]:
            inputs = f"{{{', '.join(f'{name!r}: {code}' for name, code in zeros.items())}}}"
        return "\n".join(["import json", "", "import torch", "", f"inputs = {inputs}", *run, *show])

    def _deep(self) -> list[str]:
        """Return code for an image of more than 8 bits per channel, which Pillow would clip."""
        data, chosen = self.config["data"], self.config["source"]
        # without a choice all sources are read alike
        part = data[chosen] if chosen in data else next(iter(data.values()), {})
        deep = part.get("pixel_range")
        if not deep:
            do = ['    raise SystemExit("more than 8 bits per channel: let tl.load read it")']
        else:
            low, high = deep
            do = [
                f"    values = (np.asarray(image, float) - {low}) * (255 / {high - low})",
                "    image = Image.fromarray((values.clip(0, 255) + 0.5).astype(np.uint8))",
            ]
        return ['if image.mode[0] in "IF":', *do]

    def _licence(self) -> str:
        if self.licence is None:
            return "Nobody has stated a licence for these weights."
        return f"{self.licence}. The licences of the training data apply beside it."


def _seeds(scores: RunScores, name: str) -> str:
    if name not in scores.seeds:
        return "-"
    mean, half, count = scores.seeds[name]
    return f"{mean:.4g}{'' if half is None else f' ± {half:.2g}'} ({counted(count, 'seed')})"


def _zeros(part: Mapping[str, Any]) -> str:
    """Return code for a tensor of two samples."""
    shape = ", ".join(map(str, part["shape"]))
    return f"torch.zeros(2, {shape}, dtype=torch.{part['dtype']})"
