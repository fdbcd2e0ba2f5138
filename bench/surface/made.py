"""Corpora that are made, for tuning: messages and agreements in files, a ship's log as one text.

The same on every machine: no randomness but a seeded generator's. Holds a few planted
facts; everything else is filling.
"""

import random

PEOPLE = ("Amara Oduya", "Ben Castell", "Chiara Neri", "Dmitri Holm", "Elif Aydin", "Farid Sato")
TOPICS = ("invoice", "delivery", "holiday", "meeting", "printer", "parking", "budget", "training")
LINES = (
    "please have a look at the attached list before Thursday.",
    "I have not heard back from the supplier in Lyon yet.",
    "the room on the third floor is free again.",
    "thank you for the quick reply, that helps a lot.",
    "could you send me the numbers for the last quarter?",
    "we should talk about the new schedule next week.",
    "the courier came twice and nobody was at the desk.",
)
FIRMS = ("Alder Foods", "Birch Pharma", "Cobalt Media", "Dunmore Steel", "Eastgate Hotels")
STATES = ("Ohio", "Texas", "Vermont", "Oregon", "Georgia")
KINDS = ("Supply", "Hosting", "Franchise", "Consulting")
PORTS = ("Bergen", "Lisbon", "Cork", "Hamburg", "Malaga")
WEATHER = ("fair, light wind", "rain all day", "fog until noon", "gale from the north", "calm sea")


def messages() -> dict[str, str]:
    """400 messages with headers, as files."""
    chance = random.Random(4)
    texts = {}
    for number in range(1, 401):
        sender, to = chance.sample(PEOPLE, 2)
        topic = chance.choice(TOPICS)
        lines = [f"{line[0].upper()}{line[1:]}" for line in chance.sample(LINES, 3)]
        if number == 217:
            topic, sender = "warehouse keys", "Elif Aydin"
            lines.insert(1, "The spare key of the warehouse lies with Mr. Pavlov at the gate.")
        if number == 305:
            lines.append("The rent for the new office will be 2,350 euros a month.")
        head = f"From: {sender}\nTo: {to}\nDate: {_date(number)}\nSubject: {topic.capitalize()}\n"
        texts[f"inbox/{number:04}.eml"] = f"{head}\n" + "\n".join(lines) + f"\n\n{sender}\n"
    return texts


def agreements() -> dict[str, str]:
    """One agreement of each kind for each pair of firms, a paragraph a line."""
    chance = random.Random(6)
    texts = {}
    for number, first in enumerate(FIRMS):
        for kind in KINDS:
            second = FIRMS[(number + chance.randrange(1, 4)) % len(FIRMS)]
            day = f"{chance.choice(('March', 'June', 'October'))} {chance.randrange(1, 29)}, 2009"
            title = f"{kind.upper()} AGREEMENT"
            years, days = chance.choice(("two", "three", "five")), chance.choice((15, 30, 45))
            state = chance.choice(STATES)
            who = f'{first}, Inc. ("the Company") and {second} LLC ("the Partner")'
            law = f"governed by the laws of the State of {state}"
            parts = [
                f"{title} This {kind} Agreement is made as of {day} by and between {who}.",
                f"1. TERM. This Agreement runs for {years} years unless terminated earlier.",
                f"2. PAYMENT. The Partner shall pay invoices within {days} days.",
                "3. CONFIDENTIALITY. Each party shall keep the other's information secret.",
                f"4. GOVERNING LAW. This Agreement shall be {law}, without regard to conflicts.",
            ]
            if chance.random() < 0.4:
                parts.insert(4, "ARBITRATION. Any dispute shall be settled by arbitration.")
            texts[f"{first.replace(' ', '').upper()}_2009-EX-10-{title}.txt"] = "\n\n".join(parts)
    return texts


def diary() -> str:
    """A ship's log of 500 days as one text."""
    chance = random.Random(5)
    lines = ["THE LOG OF THE MARIGOLD", "", "kept by Captain Johan Lund", ""]
    for number in range(1, 501):
        lines.append(f"{_date(number)}. {chance.choice(WEATHER).capitalize()}. ")
        port = chance.choice(PORTS)
        lines.append(f"We made {chance.randrange(20, 190)} miles on the way to {port}. The crew is")
        lines.append(chance.choice(("well.", "tired.", "in good spirits.", "short of bread.")))
        if number == 111:
            lines.append("The cook, a man named Tobias Finch, was put ashore with a fever.")
        if number == 320:
            lines.append("Sold the cargo of cork to a merchant for 912 crowns.")
        lines.append("")
    return "\n".join(lines)


def _date(number: int) -> str:
    return f"{number % 28 + 1} {('March', 'April', 'May', 'June', 'July')[number % 5]} 1987"
