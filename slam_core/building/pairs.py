"""Pair sets of a corpus, in units: what a model is asked to tell apart, and what DPO prefers.

After sWUGGY and sBLIMP (Nguyen et al. 2020, arXiv:2011.11588), StoryCloze (Hassid et al. 2023,
arXiv:2305.13009) and SALMon's speaker consistency (Maimon et al. 2024, arXiv:2409.07437), with
other words, sentences, stories and voices. A prompt ends with the PAUSE that a reader makes there,
if the tokeniser has one.

Whatever is spoken for a pair is spoken by one person on both sides, unless the person is what
differs, and at one pace, so that nothing but the text, or the voice, can tell the sides apart.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from slam_core.bits import Units
from slam_core.building.build import speak
from slam_core.building.splits import seed_of
from slam_core.building.voices import Cast, Speaker
from slam_core.building.work import Work
from slam_core.corpora import Corpus, Document, digest
from slam_core.errors import SlamError, UsageError, did_you_mean
from slam_core.formats.lines import json_files, json_lines, shown
from slam_core.pair_sets import Pair, cluster_of
from slam_core.units import Tokeniser

HELD_OUT = ("validation", "test")


class Reader:
    """Reads sentences aloud into units."""

    def __init__(self, tokeniser: Tokeniser, cast: Cast) -> None:
        self.tokeniser, self.cast = tokeniser, cast
        self.between = tokeniser.between
        self.speakers: Mapping[str, Speaker] = {s.name: s for s in cast.speakers}
        self._work: Work | None = None

    def keep(self, out: Path) -> None:
        """Keep each sentence beside `out` as soon as it is read, for the case of an interruption:
        `forget_work` ends that."""
        self._work = Work(out, digest([self.tokeniser.revision, self.cast.version]))

    def __call__(self, sentences: Iterable[str], speaker: Speaker, seed: int) -> Units:
        """Sentences with a PAUSE between, if there is one; the n-th has seed `seed` + n."""
        said = self.between[:0]
        for n, sentence in enumerate(sentences):
            if not sentence.strip():
                continue
            units = self._aloud(sentence, speaker, seed + n)
            if len(said) and len(units):
                said = np.append(said, self.between)
            said = np.append(said, _after(said, units))
        return said

    def _aloud(self, sentence: str, speaker: Speaker, seed: int) -> Units:
        def read() -> Units:
            return speak(self.tokeniser, self.cast.read(sentence, speaker, seed)).units

        if self._work is None:
            return read()
        told = f"{sentence}\0{speaker.name}\0{seed}"
        return self._work(hashlib.sha256(told.encode()).hexdigest(), read)

    def prompt(self, sentences: Iterable[str], speaker: Speaker, seed: int) -> Units:
        """The same with the PAUSE at its end, or nothing if there are no sentences."""
        units = self(sentences, speaker, seed)
        return np.append(units, self.between) if len(units) else units

    def named(self, speaker: str) -> Speaker:
        """The speaker of a document; SlamError if the cast has nobody of that name."""
        if speaker not in self.speakers:
            raise SlamError(
                f"the cast has no {speaker!r}, who reads a document: give the cast of the corpus"
            )
        return self.speakers[speaker]


def words(source: Path, reader: Reader, *, least_count: int, limit: int) -> Iterator[Pair]:
    """Pairs from a table with columns word, word_phones, nonword_phones, count_in_story_text.

    Words seen fewer than `least_count` times in the stories are left out: a model of the corpus
    cannot know them.
    """
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    columns = ("word", "word_phones", "nonword_phones", "count_in_story_text")
    if missing := [name for name in columns if any(row.get(name) is None for row in rows)]:
        raise SlamError(
            f"{source} has no {missing[0]} in some row: a table of words has the tab-separated "
            f"columns {', '.join(columns)}"
        )
    known = [row for n, row in enumerate(rows, 1) if _count(row, source, n) >= least_count]
    if not known:
        raise SlamError(
            f"{source}: none of {len(rows)} words has a count of {least_count} or more: lower "
            "--least-count"
        )
    able = [s for s in dict.fromkeys(reader.cast.speakers) if s.engine == "hibari"]
    if not able:
        raise UsageError("nobody of this cast can read phones: give --cast hibari or mixed")
    for row in known[:limit]:
        seed = seed_of("word", row["word"])

        def said(phones: str, seed: int = seed) -> Units:
            readings = reader.cast.pronounce([f"{phones}."], able[seed % len(able)], seed)
            return speak(reader.tokeniser, readings).units

        nothing = np.zeros(0, np.uint16)
        yield Pair(row["word"], nothing, said(row["word_phones"]), said(row["nonword_phones"]))


def _count(row: Mapping[str, str], source: Path, number: int) -> int:
    text = row["count_in_story_text"]
    if not re.fullmatch("[0-9]+", text):
        raise SlamError(
            f"{source}, word {number} ({row['word']}): count_in_story_text is {text!r}: it must be "
            "a whole number"
        )
    return int(text)


class TextPair(BaseModel):
    """One line of a file of text pairs; other fields are not looked at.

    A line of BLiMP as released (Warstadt et al. 2020, arXiv:1912.00582) is one, too: its group is
    the paradigm. So is a line of `preferences texts`, with chosen and rejected.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    positive: str = Field(validation_alias=AliasChoices("positive", "chosen"))
    negative: str = Field(validation_alias=AliasChoices("negative", "rejected"))
    prompt: str = ""
    group: str = ""
    context: str = ""  # what pairs of one question share

    @model_validator(mode="before")
    @classmethod
    def _from_blimp(cls, row: Any) -> Any:
        if not (isinstance(row, dict) and {"sentence_good", "sentence_bad", "UID"} <= row.keys()):
            return row
        return {
            "id": f"{row['UID']}:{row.get('pairID', row.get('pair_id'))}",
            "positive": row["sentence_good"],
            "negative": row["sentence_bad"],
            "group": row["UID"],
        }


def texts(source: Path, reader: Reader, each: int | None = None) -> Iterator[Pair]:
    """Text pairs read aloud, each by a speaker that its id decides.

    `source` is a file, or a folder of files, of lines `TextPair`. `each` pairs of a group are
    taken, by a checksum of their ids.
    """
    groups: dict[str, list[TextPair]] = {}
    for pair in text_pairs(source):
        groups.setdefault(pair.group, []).append(pair)
    for pairs in groups.values():
        chosen = sorted(pairs, key=lambda p: seed_of("each", p.id))[:each] if each else pairs
        for pair in chosen:
            yield spoken(pair, reader)


def spoken(pair: TextPair, reader: Reader) -> Pair:
    """One text pair read aloud."""
    speaker, seed = reader.cast.speaker_of(pair.id), seed_of("pair", pair.id)
    prompt = reader.prompt([pair.prompt], speaker, seed + 1000)
    right, wrong = (
        _after(prompt, reader([side], speaker, seed)) for side in (pair.positive, pair.negative)
    )
    return Pair(pair.id, prompt, right, wrong, pair.group, cluster_of(pair.context))


def text_pairs(source: Path) -> Iterator[TextPair]:
    """The lines of a file, or of the files of a folder; SlamError names one that is no pair."""
    seen: set[str] = set()
    for file in json_files(source):
        for where, record in json_lines(file):
            try:
                pair = TextPair.model_validate(record)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"])) or "the line"
                raise SlamError(f"{where}: {field}: {first['msg']}") from None
            if pair.id in seen:
                raise SlamError(f"{where}: the id {pair.id!r} was there before")
            seen.add(pair.id)
            yield pair


def cloze(
    source: Path,
    corpus: Corpus,
    wrong: str,
    texts: Path | None = None,
    reader: Reader | None = None,
) -> Iterator[Pair]:
    """Pairs cut from the corpus: four sentences of a story, then the next one or a wrong one.

    `source` has a JSON object a line: story, i (first sentence of the prompt), and under `wrong`
    the (story, sentence) of the wrong end. With `texts`, a folder of <story>.txt with a sentence a
    line, a wrong end of another story is read aloud by who reads the prompt; without, it is cut
    from the other story, and may be in another voice. All lines are looked at before any is read.
    """
    documents = _documents(corpus, ("train", *HELD_OUT))

    def place(told: Any, where: str, more: int = 0) -> tuple[Document, int]:
        """The document, and the sentence of it after which there must be so many `more`."""
        if not (isinstance(told, list) and list(map(type, told)) == [str, int]):
            raise SlamError(f"{where} is {shown(told)}: it must be [story, sentence]")
        story, i = told
        if story not in documents:
            raise SlamError(f"{where} names the story {story!r}, which {corpus.name} has not")
        has = len(documents[story].sentences)
        if not has:
            raise SlamError(
                f"{where} names {story!r}, whose sentences {corpus.name} does not know: a cloze is "
                "cut from texts that were read aloud"
            )
        if not 0 <= i < has - more:
            raise SlamError(
                f"{where} names sentence {i} of {story!r}, whose last one is {has - 1}"
                + (f": {more} more must follow it" if more else "")
            )
        return documents[story], i

    places = []
    for where, item in json_lines(source):
        if missing := [field for field in ("story", "i", wrong) if field not in item]:
            raise SlamError(f"{where} has no field {missing[0]!r}; it has {', '.join(item)}")
        begin = place([item["story"], item["i"]], f"{where}: (story, i)", more=4)
        other, j = place(item[wrong], f"{where}: {wrong}")
        aloud = None
        if reader and texts and other.speaker != begin[0].speaker:
            lines = _sentences(texts, other.id)
            if j >= len(lines):
                raise SlamError(
                    f"{where}: {wrong} names sentence {j} of {other.id!r}, whose text has "
                    f"{len(lines)} lines: give the texts of the corpus"
                )
            aloud = lines[j], reader.named(begin[0].speaker)
        places.append((begin, (other, j), aloud))
    for (at, i), (other, j), aloud in places:
        prompt = cut(corpus, at, i, i + 4, pause=True)
        if reader and aloud:
            sentence, speaker = aloud
            end = reader([sentence], speaker, seed_of(other.id, j))
        else:
            end = cut(corpus, other, j, j + 1)
        right, id = cut(corpus, at, i + 4, i + 5), f"{at.id}:{i}:{other.id}:{j}"
        yield Pair(id, prompt, right, _after(prompt, end), cluster=at.id)


def endings(
    corpus: Corpus, kind: str, reader: Reader, splits: Sequence[str], limit: int
) -> Iterator[Pair]:
    """A story of `slam_core.stories` and its end, against a wrong one of a kind, read aloud.

    The stories are those of `splits` whose generator made such a wrong end, in the order of their
    ids; `group` is the level of difficulty. `UsageError` for a kind that none of them has.
    """
    from slam_core.stories import story_of

    found = _documents(corpus, splits)
    made = 0
    for id in sorted(found):
        if made == limit:
            return
        story, document = story_of(id), found[id]
        if kind not in story.wrong:
            continue
        first = len(story.sentences) - story.ending
        speaker = reader.named(document.speaker)
        prompt = cut(corpus, document, 0, first, pause=True)
        right = cut(corpus, document, first, len(story.sentences))
        wrong = _after(prompt, reader(story.wrong[kind], speaker, seed_of(id, kind)))
        yield Pair(f"{id}:{kind}", prompt, right, wrong, f"level-{story.level}")
        made += 1
    if not made:
        kinds = sorted({kind for id in found for kind in story_of(id).wrong})
        raise UsageError(
            f"no story of {' or '.join(splits)} in {corpus.name} has a wrong end of the kind "
            f"{kind!r}; they have {', '.join(kinds) or 'none'}{did_you_mean(kind, kinds)}"
        )


def consistency(
    corpus: Corpus, reader: Reader, splits: Sequence[str], limit: int
) -> Iterator[Pair]:
    """Half a passage, then its other half in the same voice or in another one.

    Passages are two sentences that follow each other in a document of `splits` whose text is
    known, one a document. The same words on both sides, so only the voice can tell; `group` names
    the two speakers. A document of one sentence is passed over.
    """
    if not corpus.texts:
        raise UsageError(f"{corpus.name} keeps no texts: build it with --keep-text")
    found = {
        id: d
        for id, d in _documents(corpus, splits).items()
        if id in corpus.texts and len(corpus.texts[id].sentences) > 1
    }
    if not found:
        raise UsageError(
            f"every text of {' and '.join(splits)} in {corpus.name} is of one sentence: two are "
            "needed for a voice to change between them"
        )
    people = list(dict.fromkeys(reader.cast.speakers))
    for id in sorted(found)[:limit]:
        document, said = found[id], corpus.texts[id].sentences
        seed = seed_of("consistency", id)
        first = seed % (len(said) - 1)
        others = [s for s in people if s.name != document.speaker]
        other = others[seed // len(said) % len(others)]
        prompt = cut(corpus, document, first, first + 1, pause=True)
        same = cut(corpus, document, first + 1, first + 2)
        changed = _after(prompt, reader([said[first + 1]], other, seed_of(id, first + 1)))
        yield Pair(f"{id}:{first}", prompt, same, changed, f"{document.speaker} {other.name}")


def cut(corpus: Corpus, document: Document, first: int, last: int, *, pause: bool = False) -> Units:
    """Sentences [first, last) of a document, with the PAUSE after them, if any, if asked."""
    spans = document.spans
    if last > len(spans):
        raise SlamError(
            f"{corpus.name} tells where {len(spans)} sentences of {document.id!r} lie, and the one "
            f"after {last - 1} is asked for: build it from texts, or import it with `sentences`"
        )
    start, stop = spans[first][0], spans[last - 1][1]
    if pause:
        stop = next((low for low, high in spans[last:] if high > low), stop)
    return corpus.read(document.split, document.start + start, document.start + stop)


def _after(before: Units, units: Units) -> Units:
    """`units` without their first one where it would repeat the last one `before`."""
    repeats = before.size and units.size and before[-1] == units[0]
    return units[1:] if repeats else units


def _documents(corpus: Corpus, splits: Iterable[str]) -> dict[str, Document]:
    present = [split for split in splits if split in corpus.manifest.splits]
    return {d.id: d for split in present for d in corpus.documents(split)}


def _sentences(folder: Path, story: str) -> list[str]:
    files = sorted(folder.rglob(f"{story}.txt"))
    if len(files) != 1:
        raise SlamError(f"{folder} holds {len(files)} files {story}.txt: there must be one")
    return [line for line in files[0].read_text(encoding="utf-8-sig").splitlines() if line.strip()]
