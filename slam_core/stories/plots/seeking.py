"""Something or somebody is looked for."""

from __future__ import annotations

from slam_core.stories.lexicon import COLOURS, OBSTACLES, PLACES
from slam_core.stories.plots.registry import plot
from slam_core.stories.world import World


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
        f"{a.he} put the {t} down {left.at} and walked off.",
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
        f"{a.he} saw no room {other.at} and hid {hidden.at}.",
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
        f"{a} laughed and did not stay {hidden.at}.",
        f"{a} had been {hidden.at} all the time.",
    )


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
    w.say(
        f"{a} thought for a while.",
        f"{a} knew what to do.",
        f"{a.he} thought of what {b} had said.",
    )
    w.ending()
    w.say(
        f"{a} opened the {right} box and took out the {t.noun}.",
        f"{a} took the {right} box and got the {t.noun}.",
    )
    w.say(
        f"{a} did not want the {wrong} box.",
        f"{a} did not open the {wrong} box.",
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
