"""Sentences drawn from a seed."""

from __future__ import annotations

from itertools import islice

from tl.data.text.grammar import SENTIMENTS, TOPICS, WORDS, sentences


def test_sentences_differ_and_follow_the_seed() -> None:
    found = list(islice(sentences(0), 500))
    assert found == list(islice(sentences(0), 500))
    assert len({text for text, _, _ in found}) == 500
    assert not set(found) & set(islice(sentences(1), 500))


def test_labels_are_balanced_and_told_by_the_words() -> None:
    found = list(islice(sentences(0), 1200))
    for topic, (nouns, _) in TOPICS.items():
        texts = [text.lower() for text, of, _ in found if of == topic]
        assert 130 < len(texts) < 270
        subjects = [text.split(", the ")[1] if "unlike" in text else text[4:] for text in texts]
        assert all(subject.split()[0] in nouns.split() for subject in subjects)
    for text, _, sentiment in found:
        [said] = [s for s in SENTIMENTS if text.rstrip(".").split()[-1] in WORDS[s].split()]
        assert (said == sentiment) != (" not " in text)
    negated = [" not " in text for text, _, _ in found]
    assert 0.2 < sum(negated) / len(negated) < 0.3
