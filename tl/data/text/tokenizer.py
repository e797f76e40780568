"""Tokenizers: named, read from a folder, file or checkpoint, or trained on the text itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl.data.errors import DataError

_PAD, _MASK = ("[PAD]", "<pad>"), ("[MASK]", "<mask>")
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizers_library() -> Any:  # noqa: ANN401 - a module
    """Import `tokenizers`, which is an extra.

    Raises:
        ModuleNotFoundError: If it is not installed; says how to.
    """
    try:
        import tokenizers  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise ModuleNotFoundError("Text needs tokenizers: pip install 'tl[text]'.") from None
    return tokenizers


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer as plain text, from which it is rebuilt bit for bit.

    Args:
        content: What `tokenizers` writes as ``tokenizer.json``, without truncation and padding.
    """

    content: str

    @classmethod
    def of(cls, content: str, where: str) -> TextTokenizer:
        """Build a tokenizer from the text of a ``tokenizer.json``.

        Raises:
            DataError: If it is not one.
        """
        try:
            backend = tokenizers_library().Tokenizer.from_str(content)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - the library raises no other type
            raise DataError(f"{where} is not a tokenizer.json: {error}.") from None
        backend.no_truncation()
        backend.no_padding()
        return cls(backend.to_str())

    @cached_property
    def hash(self) -> str:
        """A hash of everything that determines token ids."""
        plain = json.dumps(json.loads(self.content), sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:16]

    @cached_property
    def vocab_size(self) -> int:
        """The largest token id plus one."""
        numbers: list[int] = list(self.backend().get_vocab(with_added_tokens=True).values())
        return 1 + max(numbers)

    @cached_property
    def special_ids(self) -> Tensor:
        """Ids of the special tokens, ascending ``(S,)`` int64."""
        added = json.loads(self.content).get("added_tokens", [])
        return torch.tensor(
            sorted(token["id"] for token in added if token["special"]), dtype=torch.int64
        )

    @cached_property
    def pad_id(self) -> int:
        """Id of the padding token; 0 without one, because attention masks it."""
        return self._id_of(_PAD) or 0

    @cached_property
    def mask_id(self) -> int | None:
        """Id of the token that replaces masked ones; ``None`` without one."""
        return self._id_of(_MASK)

    def _id_of(self, names: Iterable[str]) -> int | None:
        backend = self.backend()
        found = (backend.token_to_id(name) for name in names)
        return next((number for number in found if number is not None), None)

    def backend(self) -> Any:  # noqa: ANN401 - the library's tokenizer
        """Return a new tokenizer of the `tokenizers` library."""
        return tokenizers_library().Tokenizer.from_str(self.content)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without the special ones."""
        text: str = self.backend().decode(list(ids))
        return text

    def record(self) -> dict[str, Any]:
        """Return the compressed tokenizer in plain types, for checkpoints."""
        packed = base64.b64encode(zlib.compress(self.content.encode(), 9)).decode()
        return {"hash": self.hash, "vocab_size": self.vocab_size, "packed": packed}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TextTokenizer:
        """Rebuild a tokenizer from the result of `record`.

        Raises:
            DataError: If it is damaged.
        """
        try:
            content = zlib.decompress(base64.b64decode(str(record["packed"]))).decode()
        except (KeyError, ValueError, zlib.error):
            raise DataError("The checkpoint's record of its tokenizer is damaged.") from None
        return cls.of(content, "The tokenizer of the checkpoint")


def train_wordpiece(texts: Sequence[str], vocab_size: int) -> TextTokenizer:
    """Train an uncased WordPiece vocabulary, tokenised as BERT does (Devlin et al., 2019).

    The library breaks ties at random: training again on the same text may number words
    differently. The cache and checkpoints keep the trained tokenizer.

    Args:
        texts: Training texts.
        vocab_size: Maximum number of word pieces, including special tokens.
    """
    library = tokenizers_library()
    backend = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - no secret
    backend.normalizer = library.normalizers.BertNormalizer()
    backend.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    backend.decoder = library.decoders.WordPiece()
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=_SPECIAL, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    ends = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return TextTokenizer(backend.to_str())


def find_tokenizer(name: str) -> TextTokenizer:
    """Read a tokenizer by name.

    Args:
        name: A ``tokenizer.json``, a folder that contains one, a checkpoint of this framework that
            was trained on text, or a Hugging Face repository, cached or downloaded.

    Raises:
        DataError: If there is no tokenizer; says what to do.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / "tokenizer.json"
        if not path.is_file():
            raise DataError(
                f"{path.parent} has no tokenizer.json. Write one by "
                "`AutoTokenizer.from_pretrained(...).save_pretrained(...)`."
            )
    if path.suffix == ".json" and path.is_file():
        try:
            return TextTokenizer.of(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}.") from None
    if path.is_file():
        return tokenizer_of_checkpoint(path)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or path.suffix in (".json", ".ckpt"):
        raise DataError(f"`tokenizer`: no such file or folder: {name}.")
    from tl.backbones.offline import hub_file  # noqa: PLC0415 - where it is needed

    try:
        found = hub_file(name, "tokenizer.json")
    except (ValueError, ModuleNotFoundError) as error:
        raise DataError(str(error)) from None
    return TextTokenizer.of(found.read_text(encoding="utf-8"), str(found))


def tokenizer_of_checkpoint(path: str | Path) -> TextTokenizer:
    """Read the tokenizer that a checkpoint was trained with.

    Raises:
        DataError: If it was not trained on text.
    """
    record = tokenizer_record(path)
    if record is None:
        raise DataError(f"{path} does not hold a tokenizer: it was not trained on text.")
    return TextTokenizer.from_record(record)


def tokenizer_record(path: str | Path) -> Mapping[str, Any] | None:
    """Return the record of the tokenizer of a checkpoint's first source that has one."""
    from tl.checkpoints.files import read_checkpoint  # noqa: PLC0415 - where it is needed
    from tl.data.trained_on import sources_of  # noqa: PLC0415 - as above

    kept = read_checkpoint(path).get("tl")
    data = kept.get("data") if isinstance(kept, Mapping) else None
    if not isinstance(data, Mapping):
        return None
    records = (part.get("tokenizer") for part in sources_of(data).values())
    return next((record for record in records if isinstance(record, Mapping)), None)
