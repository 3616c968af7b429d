"""What the first 50,000 stories of each level are like: repetitions, words, balance of ends.

    python tests/bench/stories.py [--count 50000]

* repetitions: stories with the text, or with the facts (`Story.key`), of an earlier one, and how
  many different facts there are at least by that (n stories of N equally frequent facts repeat
  about n^2 / 2N of them, of unequally frequent ones more);
* alone: how often naive Bayes on words and word pairs, trained on labelled ends of four fifths,
  tells right from wrong ends of the rest without their beginnings. Chance is .5.

Stored in results/bench/stories.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.table import store
from ends import KINDS, naive_bayes, words

from slam_core.stories import LEVELS, story


def measure(level: int, count: int) -> dict[str, Any]:
    stories = [story(number, level) for number in range(count)]
    same_facts = count - len({s.key for s in stories})
    seen, held = stories[: count * 4 // 5], stories[count * 4 // 5 :]
    alone = {kind: round(mean(naive_bayes(seen, held, kind)), 4) for kind in KINDS}
    return {
        "level": level,
        "stories": count,
        "vocabulary": len({w for s in stories for w in words(s.sentences)}),
        "words": round(mean(len(words(s.sentences)) for s in stories), 2),
        "sentences": round(mean(len(s.sentences) for s in stories), 2),
        "gap": round(mean(s.gap for s in stories), 2),
        "distinct_sentences": len({x for s in stories for x in s.sentences}),
        "same_text": count - len({s.sentences for s in stories}),
        "same_facts": same_facts,
        "facts_at_least": round(count**2 / (2 * max(same_facts, 1)), -4),
        "alone": alone,
        "se": round(0.5 / len(held) ** 0.5, 4),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--count", type=int, default=50_000)
    count = arguments.parse_args().count
    rows = [measure(level, count) for level in LEVELS]
    store("stories", f"python tests/bench/stories.py --count {count}", rows)


if __name__ == "__main__":
    main()
