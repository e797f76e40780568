"""A small grammar of English: synthetic sentences with a topic and a sentiment."""

from __future__ import annotations

import random
from collections.abc import Iterator

TOPICS: dict[str, tuple[str, str]] = {  # nouns, and what they did
    "food": (
        "soup bread cheese salad curry pie sauce stew cake noodle pancake roast",
        "simmered baked cooled thickened browned melted",
    ),
    "music": (
        "violin chorus melody drummer quartet flute singer ballad organ rhythm opera harp",
        "played echoed began faded rehearsed resounded",
    ),
    "sport": (
        "striker keeper sprinter match relay referee coach racket goal team rower sprint",
        "scored trained ended raced attacked recovered",
    ),
    "travel": (
        "train hotel ferry airport museum tunnel guide harbour suitcase border hostel station",
        "departed arrived opened waited crossed closed",
    ),
    "science": (
        "rocket telescope microbe enzyme comet neuron magnet fossil laser molecule orbit galaxy",
        "accelerated divided reacted decayed glowed rotated",
    ),
    "weather": (
        "storm breeze rain cloud frost drizzle thunder hail sunrise fog blizzard wind",
        "passed gathered cleared lingered settled returned",
    ),
}
WORDS = {
    "positive": (
        "wonderful excellent splendid lovely superb delightful brilliant charming pleasant "
        "impressive graceful perfect"
    ),
    "negative": (
        "dreadful awful terrible dull poor annoying horrible clumsy unpleasant disappointing grim "
        "miserable"
    ),
}
SENTIMENTS = tuple(sorted(WORDS))
_TIMES = "yesterday again slowly suddenly twice early quietly finally"
_PLACES = "town village crowd city valley school"
_DEGREES = ("", "", "very ", "really ", "rather ")
_NEGATED, _COMPARED = 0.25, 0.5  # shares of the sentences


def sentences(seed: int) -> Iterator[tuple[str, str, str]]:
    """Yield an endless sequence of distinct sentences: text, topic and sentiment.

    ``[unlike the <noun of another topic>,] the <noun> and the <noun> <verb> <time> near the
    <place>, and everyone said that it was [not] [<degree>] <adjective>.`` The subject
    determines the topic. ``not`` inverts the sentiment, so single words do not determine it.
    """
    # the generator's choices are the same in all versions of Python
    rng = random.Random(f"grammar/{seed}")  # noqa: S311 - no secret
    seen: set[str] = set()
    topics = sorted(TOPICS)
    while True:
        topic, said = rng.choice(topics), rng.choice(SENTIMENTS)
        nouns, verbs = (words.split() for words in TOPICS[topic])
        first, second = rng.sample(nouns, 2)
        text = f"the {first} and the {second} {rng.choice(verbs)} {rng.choice(_TIMES.split())}"
        text += f" near the {rng.choice(_PLACES.split())}, and everyone said that it was "
        if negated := rng.random() < _NEGATED:
            text += "not "
        text += f"{rng.choice(_DEGREES)}{rng.choice(WORDS[said].split())}."
        if rng.random() < _COMPARED:
            other = rng.choice([each for each in topics if each != topic])
            text = f"unlike the {rng.choice(TOPICS[other][0].split())}, {text}"
        if text in seen:
            continue
        seen.add(text)
        opposite = {"positive": "negative", "negative": "positive"}
        yield text[0].upper() + text[1:], topic, opposite[said] if negated else said
