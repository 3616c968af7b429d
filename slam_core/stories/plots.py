"""The plots: each casts its characters, forks at `twist`, and tells scenes and an end.

Between the scene with the fork and the end stands one that does not tell which way it went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from slam_core.stories.lexicon import (
    CHARGES,
    COLOURS,
    DANGERS,
    FOODS,
    OBSTACLES,
    PLACES,
    REMEDIES,
    REPAIRS,
    RIDES,
    SEEDS,
)
from slam_core.stories.world import World


class Plot(NamedTuple):
    name: str
    level: int  # the lowest that tells it
    detail: str  # the pool of a thing that the end names
    tell: Callable[[World], None]


PLOTS: list[Plot] = []


def plot(level: int, detail: str) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Enter a function into `PLOTS` under its name."""

    def enter(tell: Callable[[World], None]) -> Callable[[World], None]:
        PLOTS.append(Plot(tell.__name__, level, detail, tell))
        return tell

    return enter


@plot(level=1, detail="things")
def lost(w: World) -> None:
    """A thing is found in the place where it was left."""
    a, b, t = w.character(), w.character(), w.thing()
    first, second = w.new(PLACES), w.new(PLACES)
    left, _ = w.either(first, second)
    w.meet(a, b)
    w.owns(a, t)
    w.scene()
    w.say(
        f"One day {a} played {first.at}, and then {second.at}.",
        f"One day {a} went to {first}, and then to {second}.",
        f"{a} took the {t.noun} to {first} first, and then to {second}.",
    )
    w.say(
        f"{a} left the {t} {left.at}.",
        f"{a} forgot the {t} {left.at}.",
        f"{a} put the {t} down {left.at} and walked off.",
    )
    w.moves(t, a, left)
    w.scene()
    w.say(
        f"At home {a} looked for the {t.noun}.",
        f"At home {a} wanted to play with the {t.noun}.",
        f"Back at home, {a} missed the {t.noun}.",
    )
    w.say(
        f"{b} said, let us go and look for it.",
        f"{b} said, I will help you look for it.",
        f"{b} asked, where did you have it last?",
    )
    w.ending()
    w.say(
        f"{a} and {b} found the {t} {left.at}.",
        f"The {t} was still {left.at}, and {a} was happy.",
        f"There, {left.at}, {a} saw the {t}.",
    )
    w.moves(t, left, a)
    w.say(
        f"{a} ran from {left} with the {t.noun} and was happy.",
        f"{a} never went to {left} with the {t.noun} again.",
        f"{a} carried the {t.noun} home from {left}.",
    )


@plot(level=1, detail="charges")
def promise(w: World) -> None:
    """What was entrusted does well or badly, as the promise is kept or broken."""
    a, b = w.character(), w.character()
    charge, away = w.new(CHARGES), w.new(PLACES)
    w.meet(a, b)
    w.scene()
    w.say(
        f"{a} had to go to {away} for a week.",
        f"One day {a} went to {away} for a week.",
        f"{a} wanted to visit an old aunt near {away}.",
    )
    w.say(
        f"{b} said, I will {charge.care} the {charge.noun} for you.",
        f"Please {charge.care} my {charge.noun}, said {a}, and {b} promised.",
        f"{b} promised to {charge.care} the {charge.noun} every day.",
    )
    w.scene()
    if w.twist:
        w.say(
            f"{b} did not forget.",
            f"Every day {b} thought of the {charge.noun}.",
            f"{b} was as good as {b.his} word.",
        )
        w.say(
            f"{b} {charge.cared} the {charge.noun} every day.",
            f"Every morning {b} {charge.cared} the {charge.noun}.",
        )
    else:
        w.say(
            f"But {b} forgot.",
            f"But {b} wanted to play.",
            f"But {b} did not think of the {charge.noun} at all.",
        )
        w.say(
            f"{b} never {charge.cared} the {charge.noun}.",
            f"{b} slept all day and did not {charge.care} the {charge.noun}.",
        )
    w.scene()
    w.say(
        f"Then {a} came home.",
        f"After a week {a} came home.",
        f"At last {a} came home and opened the door.",
    )
    w.maybe(f"{a} ran to look at the {charge.noun}.", f"{a} went to see the {charge.noun}.")
    w.ending()
    state = charge.good if w.twist else charge.bad
    w.say(
        f"The {charge.noun} was {state}.",
        f"{a} saw that the {charge.noun} was {state}.",
        f"{a} found the {charge.noun}, and it was {state}.",
    )
    if w.twist:
        w.say(
            f"{a} thanked {b} for the good {charge.noun}.",
            f"{a} was happy and gave {b} a gift.",
            f"You kept your promise, said {a}, and {b} smiled.",
        )
    else:
        w.say(
            f"{a} cried for the {charge.noun}, and {b} was sorry.",
            f"{a} was sad and did not speak to {b}.",
            f"You broke your promise, said {a}, and {b} looked down.",
        )


@plot(level=2, detail="dangers")
def warning(w: World) -> None:
    """Who takes the advice fares well, who laughs at it does not."""
    a, b, danger, place = w.character(), w.character(), w.new(DANGERS), w.new(PLACES)
    w.meet(a, b)
    w.say(
        f"{a} wanted to walk to {place}.",
        f"One day {a} wanted to go to {place}.",
        f"One day {a} set out for {place}.",
    )
    w.say(
        f"{danger.warning}, said {b}, take the {danger.item}.",
        f"Take the {danger.item}, said {b}.",
        f"{b} said, {danger.warning[0].lower()}{danger.warning[1:]}, so take the {danger.item}.",
    )
    w.scene()
    if w.twist:
        w.say(
            f"{a} said yes and took the {danger.item}.",
            f"{a} thanked {b} and took the {danger.item}.",
            f"{a} listened and packed the {danger.item}.",
        )
    else:
        w.say(
            f"{a} said no and left the {danger.item} at home.",
            f"{a} laughed and did not take the {danger.item}.",
            f"{a} did not listen and forgot about the {danger.item}.",
        )
    w.scene()
    w.say(
        f"{a} walked a long way.",
        f"{a} walked to {place}.",
        f"{a} sang a song on the way to {place}.",
    )
    w.say(danger.event)
    w.ending()
    if w.twist:
        w.say(
            f"{a} had the {danger.item} and {danger.good}.",
            f"With the {danger.item}, {a} {danger.good}.",
        )
        w.say(
            f"{b} was right, said {a} with a smile.",
            f"{a} was happy and thanked {b} that night.",
            f"How good that I listened to {b}, thought {a}.",
        )
    else:
        w.say(
            f"{a} had no {danger.item} and {danger.bad}.",
            f"Without the {danger.item}, {a} {danger.bad}.",
        )
        w.say(
            f"{b} was right, said {a} and cried.",
            f"{a} was sad and came home to {b} late.",
            f"If only I had listened to {b}, thought {a}.",
        )


@plot(level=1, detail="foods")
def sharing(w: World) -> None:
    """Who shared is helped, who did not is left alone."""
    a, b, food, place = w.character(), w.character(), w.new(FOODS), w.new(PLACES)
    w.meet(a, b)
    w.say(
        f"{a} had some {food}.",
        f"{a} had a bag with {food}.",
        f"{a} had a basket full of {food}.",
    )
    w.scene()
    w.say(
        f"{b} was hungry and asked for {food}.",
        f"Please give me some {food}, said {b}.",
        f"{b} had not eaten all day and asked for {food}.",
    )
    if w.twist:
        w.say(
            f"{a} was kind and gave {b} half of the {food}.",
            f"{a} was kind and shared the {food} with {b}.",
            f"Of course, said {a}, and they ate the {food} together.",
        )
    else:
        w.say(
            f"{a} was greedy and gave {b} nothing.",
            f"{a} was greedy and ate the {food} alone.",
            f"Go away, said {a}, and hid the {food}.",
        )
    w.scene()
    w.say(
        f"The next day {a} fell into a hole {place.at}.",
        f"The next day {a} was in a deep hole {place.at}.",
        f"A week later {a} fell into a deep hole {place.at}.",
    )
    w.say(
        f"{a} called for help, and {b} came.",
        f"{b} came by and saw it.",
        f"Help, called {a}, and {b} heard it.",
    )
    w.ending()
    if w.twist:
        w.say(
            f"{b} thought of the good {food} and helped {a} out.",
            f"You gave me {food}, said {b}, and pulled {a} out.",
        )
        w.say(f"{a} and {b} were friends.", f"{a} thanked {b} and was happy.")
    else:
        w.say(
            f"{b} thought of the {food} and left {a} alone.",
            f"You gave me no {food}, said {b}, and went away.",
        )
        w.say(f"{a} sat there all night alone.", f"{a} cried and was sorry.")


@plot(level=2, detail="repairs")
def repair(w: World) -> None:
    """The thing that is broken is mended with the tool that suits it."""
    a, b, x, y = w.character(), w.character(), w.new(REPAIRS), w.new(REPAIRS)
    broken, _ = w.either(x, y)
    w.meet(a, b)
    w.say(
        f"{a} had a {x.noun} and a {y.noun}.",
        f"In the house of {a} were a {x.noun} and a {y.noun}.",
        f"{a} used a {x.noun} and a {y.noun} every day.",
    )
    w.say(
        f"One day the {broken.noun} {broken.trouble}.",
        f"{a} was sad, for the {broken.noun} {broken.trouble}.",
        f"But one morning the {broken.noun} {broken.trouble}.",
    )
    w.scene()
    w.say(f"{a} asked {b} for help.", f"{a} called {b}.", f"{a} went to see {b}.")
    w.say(
        f"{b} came with a box of tools.",
        f"{b} looked at it and opened a big box.",
        f"{b} thought for a while and nodded.",
    )
    w.ending()
    w.say(
        f"{b} took the {broken.tool}, and the {broken.noun} was {broken.state} again.",
        f"With the {broken.tool}, {b} made the {broken.noun} {broken.state} again.",
    )
    w.say(
        f"{a} thanked {b} for the good {broken.noun}.",
        f"{a} was happy about the {broken.noun}.",
        f"What a good {broken.tool}, said {a}.",
    )


@plot(level=1, detail="remedies")
def remedy(w: World) -> None:
    """Somebody who is unwell gets the thing that helps."""
    a, b, x, y = w.character(), w.character(), w.new(REMEDIES), w.new(REMEDIES)
    need, _ = w.either(x, y)
    w.meet(a, b)
    w.scene()
    w.say(
        f"One day {b} was very {need.ailment}.",
        f"{b} came home and was {need.ailment}.",
        f"I am so {need.ailment}, said {b} one evening.",
    )
    w.say(f"{b} sat down and cried.", f"{b} did not want to play.", f"{b} could not even smile.")
    w.scene()
    w.say(
        f"{a} wanted to help.",
        f"{a} said, I will help you.",
        f"{a} hurried home to look for something.",
    )
    w.say(
        f"At home were the {x.item} and the {y.item}.",
        f"{a} thought of the {x.item} and of the {y.item}.",
    )
    w.ending()
    w.say(
        f"{a} gave {b} the {need.item}, and {b} was {need.relief}.",
        f"The {need.item} from {a} helped, and {b} was {need.relief}.",
    )
    w.say(
        f"{b} was not {need.ailment} now and thanked {a}.",
        f"{b} said, the {need.item} was just right.",
    )


@plot(level=1, detail="places")
def race(w: World) -> None:
    """Who stops on the way loses the race."""
    a, b, goal = w.character(), w.character(), w.new(PLACES)
    winner, loser = w.either(a, b)
    w.meet(a, b)
    w.say(
        f"One day they ran a race to {goal}.",
        f"Let us run to {goal}, said {a}.",
        f"{b} asked, who will be first at {goal}?",
    )
    w.scene()
    w.say(f"{a} and {b} ran fast.", "They ran over the grass.", "Both of them ran like the wind.")
    w.say(
        f"Then {loser} stopped to sleep under a tree.",
        f"Then {loser} stopped to eat.",
        f"Halfway, {loser} sat down to rest.",
        f"Halfway, {loser} stopped to chase a butterfly.",
    )
    w.scene()
    w.say(
        f"It was a long way to {goal}.",
        f"Many friends waited at {goal}.",
        f"All the animals waited at {goal}.",
    )
    w.ending()
    w.say(
        f"{winner} came to {goal} first.",
        f"{winner} was first at {goal} and won the race.",
        f"The winner at {goal} was {winner}.",
    )
    w.say(
        f"{loser} came late and was sad.",
        f"Well done, {winner}, said {loser}.",
        f"Next time I will not stop, said {loser}.",
    )


@plot(level=1, detail="things")
def trade(w: World) -> None:
    """Two things change owners, or they do not."""
    a, b, s, t = w.character(), w.character(), w.thing(), w.thing()
    w.meet(a)
    w.owns(a, s)
    w.owns(b, t)
    w.scene()
    w.say(
        f"{a} said, give me your {t.noun} for my {s.noun}.",
        f"{a} wanted to swap with {b}.",
        f"{a} asked, shall we swap?",
    )
    if w.twist:
        w.say(f"{b} said yes, and they swapped.", f"{b} was happy, and they swapped.")
        w.moves(s, a, b)
        w.moves(t, b, a)
    else:
        w.say(f"{b} said no, and they did not swap.", f"{b} was not happy and said no.")
    w.scene()
    w.say(
        "Then it was late, and they went home.",
        "They played until the sun went down.",
        "Soon it was time to go home.",
    )
    w.ending()
    mine, yours = (t, s) if w.where(t) == a else (s, t)
    w.say(
        f"At home {a} played with the {mine}.",
        f"That night {a} slept next to the {mine}.",
        f"{a} showed everybody at home the {mine}.",
    )
    w.say(
        f"{b} played with the {yours}.",
        f"{b} was happy with the {yours}.",
        f"And {b} put the {yours} beside the bed.",
    )


@plot(level=1, detail="things")
def truth(w: World) -> None:
    """A broken toy is forgiven to the honest."""
    a, b, t = w.character(), w.character(), w.thing()
    w.meet(a, b)
    w.owns(b, t)
    w.scene()
    w.say(
        f"One day {a} broke the {t.noun}.",
        f"One day {a} fell on the {t.noun}, and it broke.",
        f"While {b} was away, {a} dropped the {t.noun}, and it broke.",
    )
    if w.twist:
        w.say(
            f"{a} told {b} the truth.",
            f"{a} said, I did it, and I am sorry.",
            f"{a} went straight to {b} and told everything.",
        )
    else:
        w.say(
            f"{a} told {b} a lie.",
            f"{a} said, I did not do it.",
            f"{a} told {b} that the wind had done it.",
        )
    w.scene()
    w.say(
        f"{b} looked at {a} for a long time.",
        f"{b} thought about it.",
        f"{b} picked up the pieces one by one.",
    )
    w.ending()
    if w.twist:
        w.say(
            f"{b} was not angry, and they made the {t} new.",
            f"{b} gave {a} a hand, and they made the {t} new.",
        )
        w.say(
            f"Then {a} and {b} played together.",
            f"Thank you for the truth, said {b}.",
        )
    else:
        w.say(
            f"{b} was angry and took the {t} home.",
            f"{b} knew it was a lie and was angry about the {t}.",
        )
        w.say(
            f"Then {a} had to play alone.",
            f"I do not like lies, said {b}.",
        )


@plot(level=1, detail="seeds")
def planting(w: World) -> None:
    """What is planted is what grows."""
    a, b, x, y = w.character(), w.character(), w.new(SEEDS), w.new(SEEDS)
    planted, other = w.either(x, y)
    place = w.new(PLACES)
    w.meet(a, b)
    w.say(
        f"{b} gave {a} a {x.noun} seed and a {y.noun} seed.",
        f"{a} got a {x.noun} seed and a {y.noun} seed from {b}.",
        f"{b} had a gift for {a}, a {x.noun} seed and a {y.noun} seed.",
    )
    w.scene()
    deeds = [
        (
            f"{a} put the {planted.noun} seed into the ground {place.at}.",
            f"{a} planted the {planted.noun} seed {place.at}.",
            f"{a} dug a hole {place.at} and planted the {planted.noun} seed.",
        ),
        (
            f"A bird ate the {other.noun} seed.",
            f"The wind took the {other.noun} seed away.",
            f"The {other.noun} seed was eaten by a bird.",
        ),
    ]
    for ways in deeds:
        w.say(*ways)
    w.scene()
    w.say(
        "The sun was warm, and the rain came down.",
        f"{a} waited for a long time.",
        f"{a} gave the seed water and waited for many weeks.",
    )
    w.maybe("Something small and green came up.", "Then a green leaf came up.")
    w.ending()
    w.say(
        f"In summer {a} had many {planted.fruit}.",
        f"In summer {a} saw the first {planted.fruit}.",
        f"By summer {a} had {planted.fruit} everywhere.",
    )
    w.say(
        f"{a} gave {b} some {planted.fruit}.",
        f"{a} and {b} were happy about the {planted.fruit}.",
        f"Look at the {planted.fruit}, said {a} to {b}.",
    )


@plot(level=1, detail="things")
def gift(w: World) -> None:
    """What was bought is in the box."""
    a, b, s, t = w.character(), w.character(), w.thing(), w.thing()
    bought, _ = w.either(s, t)
    w.meet(a, b)
    w.say(
        f"{a} wanted a gift for {b}.",
        f"{a} looked for a gift for {b}.",
        f"Soon {b} had a birthday, and {a} wanted a gift.",
    )
    w.scene()
    w.say(
        f"{a} saw a {s} and a {t}.",
        f"In the shop were a {s} and a {t}.",
        f"There was a {s} to buy, and a {t}.",
    )
    w.say(
        f"{a} bought the {bought.noun}.",
        f"{a} took the {bought.noun}.",
        f"{a} thought about it and chose the {bought.noun}.",
    )
    w.scene()
    w.say(
        f"{a} gave {b} a big box.",
        f"{a} came to {b} with a big box.",
        f"{a} hid the gift in a box with a bow for {b}.",
    )
    w.ending()
    w.say(
        f"{b} opened the box and saw a {bought}.",
        f"In the box {b} found a {bought}.",
        f"{b} looked inside, and there was a {bought}.",
    )
    w.say(
        f"{b} played with the {bought.noun} all day.",
        f"Thank you for the {bought.noun}, said {b} to {a}.",
        f"I always wanted a {bought.noun}, said {b}.",
    )


@plot(level=1, detail="things")
def stuck(w: World) -> None:
    """Of two friends the one helps who can do what the place asks for."""
    a, t, x, y = w.character(), w.thing(), w.new(OBSTACLES), w.new(OBSTACLES)
    b, c = w.character(x.kind), w.character(y.kind)
    there, helper = (x, b) if w.twist else (y, c)
    w.meet(a)
    w.owns(a, t)
    w.say(
        f"{a} knew {b} the {x.kind} and {c} the {y.kind}.",
        f"{b} the {x.kind} and {c} the {y.kind} were friends of {a}.",
    )
    w.scene()
    w.say(
        f"One day the {t.noun} was {there.where}.",
        f"One day {a} saw the {t.noun} {there.where}.",
        f"The wind took the {t.noun}, and now it was {there.where}.",
    )
    w.say(f"{a} could not get it.", f"{a} cried and could not get it.")
    w.scene()
    w.say(f"{a} called for help.", f"{a} ran to the friends.", f"{a} asked, who can help me?")
    w.ending()
    w.say(
        f"{helper} {there.deed} and got the {t}.",
        f"{helper} the {there.kind} {there.deed} and came back with the {t}.",
    )
    w.say(
        f"{helper} {there.ability}, and {a} was happy.",
        f"Thank you, {helper}, said {a}.",
        f"Only a {there.kind} can do that, said {a}.",
    )


@plot(level=1, detail="places")
def hiding(w: World) -> None:
    """Who hides is found in the hiding place."""
    a, b, x, y = w.character(), w.character(), w.new(PLACES), w.new(PLACES)
    hidden, other = w.either(x, y)
    w.meet(a, b)
    w.say(
        f"They played, and {a} had to hide.",
        f"One day {a} wanted to hide from {b}.",
        f"{b} closed both eyes and counted, and {a} ran off.",
    )
    w.scene()
    w.say(
        f"{a} looked at {x} and at {y}.",
        f"{a} ran to {x}, and then to {y}.",
        f"{a} thought of {x}, and then of {y}.",
    )
    w.say(
        f"{a} did not like {other} and hid {hidden.at}.",
        f"{a} went away from {other} and hid {hidden.at}.",
    )
    w.scene()
    w.say(
        f"{b} looked for {a} for a long time.",
        f"Here I come, called {b}.",
        f"{b} ran around and called out.",
    )
    w.ending()
    w.say(
        f"{b} found {a} {hidden.at}.",
        f"At last {b} went to {hidden} and saw {a}.",
        f"{b} heard a laugh {hidden.at}, and it was {a}.",
    )
    w.say(
        f"I was {hidden.at} all day, said {a}.",
        f"{a} laughed and came out from {hidden}.",
    )


@plot(level=2, detail="rides")
def late(w: World) -> None:
    """Who rises early catches the ride, who sleeps late does not."""
    a, b, ride, place = w.character(), w.character(), w.new(RIDES), w.new(PLACES)
    w.meet(a, b)
    w.say(
        f"In the morning a {ride} went to the sea.",
        f"{a} wanted to go on the {ride} with {b}.",
        f"The next morning {a} and {b} wanted to take the {ride}.",
    )
    w.scene()
    if w.twist:
        w.say(
            f"{a} went to bed early and slept well.",
            f"That night {a} went to sleep early.",
        )
        w.say(f"{a} woke up with the sun.", f"{a} got up early.")
    else:
        w.say(
            f"{a} played all night and did not sleep.",
            f"That night {a} went to sleep very late.",
        )
        w.say(f"{a} did not wake up with the sun.", f"{a} got up late.")
    w.scene()
    w.say(
        f"{a} ran past {place}.",
        f"{a} ran all the way, past {place}.",
    )
    w.say(f"{b} waited and looked for {a}.", f"{b} looked around for {a}.")
    w.ending()
    if w.twist:
        w.say(
            f"{a} came in time for the {ride}.",
            f"The {ride} was still there, and {a} got on.",
        )
        w.say(f"{a} and {b} saw the sea together.", f"{a} was happy to sit next to {b}.")
    else:
        w.say(
            f"{a} came too late for the {ride}.",
            f"The {ride} was gone, and {a} stood there.",
        )
        w.say(f"{b} saw the sea without {a}.", f"{a} was sad to stay without {b}.")


@plot(level=1, detail="things")
def boxes(w: World) -> None:
    """The thing is in the box that was named."""
    a, b, t = w.character(), w.character(), w.thing()
    x, y = w.new(COLOURS), w.new(COLOURS)
    right, wrong = w.either(x, y)
    w.meet(a, b)
    w.say(
        f"{b} had a {x} box and a {y} box.",
        f"{b} came with a {x} box and a {y} box.",
    )
    w.scene()
    w.say(
        f"{b} put a {t.noun} in the {right} box.",
        f"A {t.noun} is in the {right} box, said {b}.",
        f"{b} hid a {t.noun} in the {right} box.",
    )
    w.say(f"The {wrong} box is empty, said {b}.", f"{b} put nothing in the {wrong} box.")
    w.scene()
    w.say(f"{a} could take one box.", f"{a} wanted to open a box.", f"{a} came closer.")
    w.say(f"{a} thought for a while.", f"{a} knew what to do.")
    w.ending()
    w.say(
        f"{a} opened the {right} box and took out the {t.noun}.",
        f"{a} took the {right} box and got the {t.noun}.",
    )
    w.say(
        f"{a} did not want the {wrong} box.",
        f"{a} did not open the {wrong} box.",
    )


@plot(level=2, detail="places")
def trust(w: World) -> None:
    """Two say where a thing is; the one who tells the truth is right."""
    a, b, c, t = w.character(), w.character(), w.character(), w.thing()
    x, y = w.new(PLACES), w.new(PLACES)
    honest, liar = w.either(b, c)
    there = x if honest == b else y
    w.meet(a)
    w.say(
        f"{a} could not find the {t}.",
        f"One day {a} had lost the {t}.",
        f"{a} wanted the {t}, but it was gone.",
    )
    w.scene()
    w.say(
        f"{honest} the {honest.kind} always told the truth.",
        f"Everybody knew that {honest} the {honest.kind} told the truth.",
    )
    w.say(
        f"{liar} the {liar.kind} told many lies.",
        f"But {liar} the {liar.kind} liked to tell lies.",
    )
    w.scene()
    w.say(f"{b} said, the {t.noun} is {x.at}.", f"It is {x.at}, said {b}.")
    w.say(f"{c} said, the {t.noun} is {y.at}.", f"No, it is {y.at}, said {c}.")
    w.say(f"{a} thought for a while.", f"{a} knew whom to believe.")
    w.ending()
    w.say(
        f"{a} went to {there} and found the {t.noun}.",
        f"{a} found the {t.noun} {there.at}.",
    )
    w.say(f"Thank you, {honest}, said {a}.", f"{honest} was right, and {liar} was not.")


@plot(level=2, detail="foods")
def thief(w: World) -> None:
    """The trace that a thief left shows who it was."""
    a, b, c, food = w.character(), w.character(), w.character(), w.new(FOODS)
    guilty, other = w.either(b, c)
    w.meet(a)
    w.say(
        f"{a} had some {food} for {b} the {b.kind} and {c} the {c.kind}.",
        f"{b} the {b.kind} and {c} the {c.kind} came to eat {food} with {a}.",
    )
    w.scene()
    w.say(
        "But the table was empty.",
        "But somebody had been at the table and eaten everything.",
    )
    w.say(
        "There was mud on the floor.",
        "There were muddy steps on the floor.",
    )
    w.scene()
    w.say(f"{guilty} had mud on both feet.", f"The feet of {guilty} were muddy.")
    w.say(f"{other} had clean feet.", f"The feet of {other} were clean.")
    w.say(f"{a} looked at the floor again.", f"Who was it, thought {a}.")
    w.ending()
    w.say(
        f"{guilty} said sorry for the {food}.",
        f"It was {guilty} who had eaten the {food}.",
    )
    w.say(
        f"{guilty} had to clean the floor, and {other} helped.",
        f"{a} was not angry at {other}, only at {guilty}.",
    )


@plot(level=2, detail="things")
def bravery(w: World) -> None:
    """The brave one goes where the other does not dare to."""
    a, b, t = w.character(), w.character(), w.thing()
    brave, shy = w.either(a, b)
    w.meet(a, b)
    w.say(f"{brave} was brave.", f"{brave} was not afraid of anything.")
    w.say(f"{shy} was afraid of the dark.", f"{shy} was shy and afraid of the dark.")
    w.scene()
    w.say(
        f"{a} and {b} played with a {t}.",
        f"One day {a} and {b} played with a {t}.",
    )
    w.say(
        f"The {t.noun} fell into a dark cave.",
        f"The {t.noun} was lost in a dark cave.",
        f"Then the {t.noun} flew into a dark cave.",
    )
    w.scene()
    w.say("The cave was deep and cold.", "Nobody could see what was in the cave.")
    w.ending()
    w.say(
        f"{brave} went into the cave and got the {t}.",
        f"{brave} walked in and came out with the {t}.",
    )
    w.say(f"{shy} waited outside.", f"{shy} stayed outside and called.")


@plot(level=3, detail="foods")
def delivery(w: World) -> None:
    """Two get what was meant for them, or each what was meant for the other."""
    a, b, c = w.character(), w.character(), w.character()
    x, y = w.new(FOODS), w.new(FOODS)
    w.meet(a)
    w.say(
        f"{a} had {x} for {b} and {y} for {c}.",
        f"{a} made {x} for {b} and {y} for {c}.",
    )
    w.scene()
    w.say(f"{a} put everything into two bags.", f"{a} took two bags for the way.")
    if w.twist:
        w.say(f"{a} was careful and did not mix up the bags.", f"{a} knew which bag was which.")
    else:
        w.say(f"But {a} was tired and mixed up the bags.", f"But {a} took one bag for the other.")
    w.scene()
    w.say(f"{a} went from door to door.", f"{a} took the bags to {b} and to {c}.")
    w.ending()
    first, second = w.either(x, y)
    w.say(f"{b} got the {first}.", f"{b} opened the bag and found {first}.")
    w.say(f"{c} got the {second}.", f"{c} ate the {second}.")


@plot(level=3, detail="places")
def belief(w: World) -> None:
    """Who did not see that a thing was moved looks for it where it was (Wimmer and Perner 1983)."""
    a, b, t, x, y = w.character(), w.character(), w.thing(), w.new(PLACES), w.new(PLACES)
    w.meet(a, b)
    w.say(
        f"{a} put the {t} down {x.at}.",
        f"{a} left the {t} {x.at}.",
    )
    w.moves(t, a, x)
    w.scene()
    w.say(
        f"{b} took the {t.noun} and hid it {y.at}.",
        f"{b} carried the {t.noun} away and hid it {y.at}.",
    )
    w.moves(t, x, y)
    if w.twist:
        w.say(f"{a} saw it.", f"{a} saw what {b} did.")
    else:
        w.say(f"{a} did not see it.", f"{a} was asleep and saw nothing.")
    w.scene()
    w.say(f"Later {a} wanted the {t.noun}.", f"In the evening {a} wanted to have the {t.noun}.")
    w.ending()
    looked = y if w.twist else x
    w.say(
        f"{a} went to look for the {t} {looked.at}.",
        f"{a} ran to {looked} to get the {t}.",
    )
    if w.twist:
        w.say(f"There it was, and {a} laughed.", f"{a} found it and laughed at {b}.")
    else:
        w.say(f"It was not there, and {b} laughed.", f"{a} did not find it, and {b} laughed.")


@plot(level=2, detail="things")
def passing_on(w: World) -> None:
    """A thing that is lent comes back, or goes on to a third."""
    a, b, c, t = w.character(), w.character(), w.character(), w.thing()
    w.meet(a, b)
    w.owns(a, t)
    w.scene()
    w.say(f"{a} lent the {t.noun} to {b}.", f"{b} asked for the {t.noun}, and {a} lent it.")
    w.moves(t, a, b)
    w.say(f"{b} played with it all day.", f"{b} had the {t.noun} for a day.")
    if w.twist:
        w.say(f"Then {b} gave it back to {a}.", f"Then {b} brought it back to {a}.")
        w.moves(t, b, a)
    else:
        w.say(f"Then {b} gave it to {c}.", f"Then {b} brought it to {c}.")
        w.moves(t, b, c)
    w.scene()
    w.say(f"{a}, {b} and {c} met the next day.", f"The next day {a} met {b} and {c}.")
    w.ending()
    owner = w.where(t)
    w.say(f"{owner} played with the {t}.", f"{owner} came with the {t}.")
    others = [x for x in (a, b, c) if x != owner]
    w.say(
        f"{others[0]} and {others[1]} looked at it.",
        f"{others[0]} and {others[1]} had nothing to play with.",
    )
