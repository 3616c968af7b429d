"""Stories: the same everywhere, well formed, and with ends that only the beginning can judge."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import mean

import pytest
from ends import KINDS, naive_bayes, words
from hypothesis import given, settings
from hypothesis import strategies as st

from slam_core.errors import UsageError
from slam_core.stories import LEVELS, Story, lexicon, story
from slam_core.stories.draw import Draw
from slam_core.stories.plots import PLOTS
from slam_core.stories.world import Cast, Seat, World

GOLDEN = {1: "ce6a87d059cc2c0b", 2: "e9f2780970fe1b23", 3: "3cd339b377caf58c"}


@cache
def some(level: int, count: int = 1500) -> list[Story]:
    return [story(number, level) for number in range(count)]


@pytest.mark.parametrize("level", LEVELS)
def test_stories_are_the_same_everywhere(level: int) -> None:
    told = repr([(s.id, s.sentences, s.ending, s.wrong, s.key) for s in some(level)[:100]])
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == GOLDEN[level]


def test_draws_are_the_same_everywhere_and_even() -> None:
    draw = Draw("a", 1)
    assert [draw.below(1000) for _ in range(4)] == [831, 629, 777, 177]
    counts = Counter(Draw("even", i).below(4) for i in range(4000))
    assert all(abs(count - 1000) < 5 * 27 for count in counts.values())  # s.d. 27


@pytest.mark.parametrize(("number", "level"), [(-1, 1), (0, 0), (0, 4)])
def test_a_story_that_does_not_exist(number: int, level: int) -> None:
    with pytest.raises(UsageError, match=f"no story {number} of level {level}"):
        story(number, level)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(LEVELS))
def test_a_story_can_be_read_aloud(number: int, level: int) -> None:
    made = story(number, level)
    least, most = {1: (6, 13), 2: (7, 16), 3: (10, 22)}[level]
    assert least <= len(made.sentences) <= most
    assert made.ending == 2
    for sentence in (*made.sentences, *(s for end in made.wrong.values() for s in end)):
        assert re.fullmatch(r"[A-Z][a-zA-Z]*(,? [a-zA-Z]+)*[.?]", sentence)
        assert 3 <= len(sentence.split()) <= 15
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|\b(\w+) \1\b", sentence)
    assert story(number, level) == made


@pytest.mark.parametrize("level", LEVELS)
def test_wrong_ends_differ_for_their_reason(level: int) -> None:
    for s in some(level):
        names = {name for name, _ in s.facts["names"]}
        assert set(s.wrong) == set(KINDS)
        assert all(s.right != end for end in s.wrong.values())
        lengths = [len(words(end)) for end in (s.right, s.wrong["detail"], s.wrong["story"])]
        assert max(lengths) - min(lengths) <= 6
        of = {kind: {w.title() for w in words(end)} & names for kind, end in s.wrong.items()}
        assert not of["topic"]  # nobody of this story is in it
        assert of["detail"] == {w.title() for w in words(s.right)} & names
        known = set(words(s.sentences))
        assert set(words(s.wrong["detail"])) - known  # names something the story does not know


@pytest.mark.parametrize("level", LEVELS)
def test_the_end_of_the_other_turn_is_told_in_words_of_the_story(level: int) -> None:
    """Names, things and places of the contrary end all occur before the end."""
    listed = [w for pool in ("names", "things", "colours", "places") for w in _pool_words(pool)]
    for s in some(level):
        nouns = set(words(s.wrong["story"])) & set(listed)
        assert nouns <= set(words(s.sentences))


def _pool_words(name: str) -> list[str]:
    entries = getattr(lexicon, name.upper()).at(3)
    return [str(entry if isinstance(entry, str) else entry[0]).lower() for entry in entries]


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_either_turn_is_right_in_the_world_where_it_was_taken(plot) -> None:  # type: ignore[no-untyped-def]
    """Turning the coin changes cause and end, and nothing else that was drawn."""
    for number in range(100):
        told = []
        for turn in (False, True):
            cast = Cast(Seat(f"test {number}", 3))
            world = World(cast, "strand 0", turn)
            plot.tell(world)
            told.append((world.scenes, world.end, cast.facts))
        (scenes, end, drawn), (other_scenes, other_end, other_drawn) = told
        assert drawn == other_drawn
        assert all(a != b for a, b in zip(end[:1], other_end[:1], strict=True))
        assert scenes != other_scenes
        assert scenes[-1][-1] == other_scenes[-1][-1]


@pytest.mark.parametrize("level", LEVELS)
def test_no_story_is_told_twice(level: int) -> None:
    stories = some(level)
    assert len({s.sentences for s in stories}) == len(stories)
    assert len({s.key for s in stories}) >= len(stories) - 3


@pytest.mark.parametrize("level", LEVELS)
def test_the_key_leaves_out_the_turn_and_nothing_else(level: int) -> None:
    s = story(5, level)
    turned = replace(s, facts=s.facts | {"turn": ["other"]})
    other = replace(s, facts=s.facts | {"plots": ["other"]})
    assert turned.key == s.key != other.key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
def test_an_end_alone_does_not_tell_whether_it_is_right(level: int, kind: str) -> None:
    """Naive Bayes on words and word pairs of labelled ends is at chance on other ends."""
    stories = some(level)
    judged = naive_bayes(stories[:750], stories[750:], kind)
    assert abs(mean(judged) - 0.5) < 4 * 0.5 / len(judged) ** 0.5


@pytest.mark.parametrize("level", LEVELS)
def test_length_does_not_tell_whether_an_end_is_right(level: int) -> None:
    stories = some(level)
    for kind in KINDS:
        excess = [len(words(s.right)) - len(words(s.wrong[kind])) for s in stories]
        spread = (sum(x * x for x in excess) / len(excess)) ** 0.5
        assert abs(sum(excess) / len(excess)) <= 4 * spread / len(excess) ** 0.5


def test_levels_are_graded() -> None:
    graded = [some(level)[:300] for level in LEVELS]
    texts = [[words(s.sentences) for s in stories] for stories in graded]
    vocabulary = [len({word for text in told for word in text}) for told in texts]
    lengths = [mean(map(len, told)) for told in texts]
    sentences = [mean(len(s.sentences) for s in stories) for stories in graded]
    gaps = [mean(s.gap for s in stories) for stories in graded]
    for easy, hard in pairwise(zip(vocabulary, lengths, sentences, gaps, strict=True)):
        assert all(less < more for less, more in zip(easy, hard, strict=True))
    assert all(size <= most for size, most in zip(vocabulary, (300, 550, 800), strict=True))


@pytest.mark.parametrize("level", LEVELS)
def test_the_cause_does_not_stand_next_to_the_end(level: int) -> None:
    assert min(s.gap for s in some(level)) >= 1


def test_fewer_stories_to_train_on_leave_the_held_out_ones() -> None:
    from slam_core.building.build import story_sources

    every = story_sources((1, 3), 60, None, 0.2, 0.1)
    fewer = story_sources((1, 3), 60, 5, 0.2, 0.1)
    assert [s for s in fewer if s.split != "train"] == [s for s in every if s.split != "train"]
    assert Counter(s.id[:2] for s in fewer if s.split == "train") == {"l1": 5, "l3": 5}
    assert {s.split for s in every} == {"train", "validation", "test"}
    larger = {s.id: s for s in story_sources((3,), 90, None, 0.2, 0.1)}
    assert all(larger[s.id] == s for s in every if s.id.startswith("l3"))
