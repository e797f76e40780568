from __future__ import annotations

from tests.small import tiny_data
from tl.questions.about import about_data, said_data, synthetic


def test_data_are_named_and_made_up_ones_marked() -> None:
    data = tiny_data()
    data.setup("fit")
    about = about_data(data, "training samples")
    assert about == {
        "name": "generated10",
        "kind": "generated",
        "fingerprint": data.fingerprint,
        "split": "training samples",
    }
    said = f"data: training samples of generated10 ({data.fingerprint}), SYNTHETIC"
    assert said_data(about) == said
    assert synthetic({**about, "kind": "real"}) == ""


def test_data_that_say_nothing_have_no_line() -> None:
    assert about_data(object(), "all samples") == {}
