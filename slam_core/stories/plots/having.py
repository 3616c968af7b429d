"""Things that change hands, grow or are made whole."""

from __future__ import annotations

from slam_core.stories.lexicon import FOODS, PLACES, REMEDIES, REPAIRS, SEEDS
from slam_core.stories.plots.registry import plot
from slam_core.stories.world import World


@plot(level=1, detail="things")
def trade(w: World) -> None:
    """Two things change owners, or they do not."""
    a, b, s, t = w.character(), w.character(), w.thing(), w.thing()
    w.meet(a, b)
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
        f"{a} and {b} went home.",
        f"Then it was late, and {a} and {b} went home.",
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
    w.maybe("Then a little leaf came up.", "Then a small leaf came up.")
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
        f"The {broken.tool} is a great help, said {a}.",
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
    w.say(f"{b} sat down and cried.", f"{b} did not want to play.", f"{b.he} could not even smile.")
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
        w.say(f"Then {b} gave it to {c} the {c.kind}.", f"Then {b} brought it to {c} the {c.kind}.")
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


@plot(level=3, detail="foods")
def delivery(w: World) -> None:
    """Two get what was meant for them, or each what was meant for the other."""
    a, b, c = w.character(), w.character(), w.character()
    x, y = w.new(FOODS), w.new(FOODS)
    w.meet(a)
    w.say(
        f"{a} had {x} for {b} the {b.kind} and {y} for {c} the {c.kind}.",
        f"{a} made {x} for {b} the {b.kind} and {y} for {c} the {c.kind}.",
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
