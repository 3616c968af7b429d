"""What one does decides how one fares."""

from __future__ import annotations

from slam_core.stories.lexicon import CHARGES, DANGERS, FOODS, PLACES, RIDES
from slam_core.stories.plots.registry import plot
from slam_core.stories.world import World


@plot(level=1, detail="charges")
def promise(w: World) -> None:
    """What was entrusted does well or badly, as the promise is kept or broken."""
    a, b = w.character(), w.character()
    charge, away = w.new(CHARGES), w.new(PLACES)
    w.meet(a, b)
    w.scene()
    w.say(
        f"{a} had to visit an aunt {away.at} for a week.",
        f"One day {a} went away to an aunt {away.at}.",
        f"{a} packed a bag to visit an old aunt {away.at}.",
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
    w.say(f"{a} and {b} ran fast.", f"{a} and {b} ran and ran.", "Both of them ran like the wind.")
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
        f"You are so fast, {winner}, said {loser}.",
        f"Next time I will not stop, said {loser}.",
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
        w.say(
            f"{a} woke up with the sun.", f"{a} got up early.", f"{a.he} was up before the birds."
        )
    else:
        w.say(
            f"{a} played all night and did not sleep.",
            f"That night {a} went to sleep very late.",
        )
        w.say(
            f"{a} did not wake up with the sun.",
            f"{a} got up late.",
            f"{a.he} was still asleep at noon.",
        )
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
        f"Then the {t.noun} rolled into a dark cave.",
    )
    w.scene()
    w.say("The cave was deep and cold.", "Nobody could see what was in the cave.")
    w.ending()
    w.say(
        f"{brave} went into the cave and got the {t}.",
        f"{brave} walked in and came out with the {t}.",
    )
    w.say(f"{shy} waited outside.", f"{shy} stayed outside and called.")


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
        f"But the table of {a} was empty.",
        f"But somebody had been in the house of {a} and eaten everything.",
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
