from __future__ import annotations

from tl.cli.help_page import help_of, page_of
from tl.cli.short_forms import LIGHTNINGS
from tl.cli.verbs import VERBS


def test_help_fits_a_screen() -> None:
    for verb in LIGHTNINGS:
        lines = page_of(verb).splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 100
    overview = help_of(["--help"])
    assert overview is not None
    assert all(f"  {verb} " in overview for verb in (*LIGHTNINGS, *VERBS))


def test_only_a_verb_s_own_help_is_a_page() -> None:
    assert help_of(["fit", "--help"]) == page_of("fit")
    assert help_of(["fit", "--help-all"]) is None
    assert help_of(["lineage", "--help"]) is None
    assert help_of(["fit", "--config=a.yaml"]) is None
