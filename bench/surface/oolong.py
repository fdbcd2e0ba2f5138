"""Windows of dated, signed questions whose labels nobody has written beside them, and their gold.

Decides how lines are drawn: after the construction of OOLONG-synth's TREC part (Bertsch et
al., 2025; figures read from abertsch72/oolong, MIT), with words of our own. Invariant: the
same pool, size and seed give the same window, and gold comes from the labels alone.
Reads no file; who scores is `scores`, which questions are asked is `tasks`.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations, permutations
from typing import Any, Final

LABELS: Final = (
    "abbreviation",
    "entity",
    "description and abstract concept",
    "human being",
    "location",
    "numeric value",
)
PROMPT_TOKENS, QUESTION_TOKENS, LINE_TOKENS = 168, 250, 39
"""OOLONG's own estimates for this source."""
MONTHS: Final = tuple("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())  # noqa: SIM905
FIRST_DAY, LAST_DAY = date(2022, 2, 1), date(2025, 5, 31)
USERS_PER_LINE = 0.54
BUSY_USERS, BUSY_LINES = 0.2, 0.8
"""So many of the users wrote so many of the lines."""


@dataclass(frozen=True, slots=True)
class Line:
    """One question that somebody asked."""

    day: date
    user: int
    text: str
    label: str


def lines_in(context_tokens: int) -> int:
    """Lines of a window: 188 in 8,192 tokens, 388 in 16,384."""
    return int((0.95 * context_tokens - PROMPT_TOKENS - QUESTION_TOKENS) // LINE_TOKENS)


def window(pool: Mapping[str, Sequence[str]], size: int, seed: int) -> list[Line]:
    """Draw `size` lines from texts by label: uneven labels, a few busy users, any day."""
    rng = random.Random(seed)
    labels = sorted(pool)
    weights = [rng.expovariate(1) + rng.expovariate(1) for _ in labels]
    unused: dict[str, list[str]] = {label: [] for label in labels}
    users = rng.sample(range(10_000, 100_000), max(2, round(USERS_PER_LINE * size)))
    busy = max(1, round(BUSY_USERS * len(users)))
    lines = []
    for label in rng.choices(labels, weights, k=size):
        if not unused[label]:  # used up: from the beginning again
            unused[label] = list(pool[label])
            rng.shuffle(unused[label])
        some = users[:busy] if rng.random() < BUSY_LINES else users[busy:]
        day = FIRST_DAY + timedelta(days=rng.randrange((LAST_DAY - FIRST_DAY).days + 1))
        lines.append(Line(day, rng.choice(some), unused[label].pop(), label))
    return lines


def text_of(lines: Sequence[Line]) -> str:
    """Write a window as the model gets it: what it is before and after, no labels."""
    about = (
        f"lines contain {len(lines)} general-knowledge questions, one a line. The answer of each "
        f"falls into one of {len(LABELS)} categories: {', '.join(map(repr, LABELS))}.\n\n"
        f"You will be asked about statistics of all {len(lines)} lines together. Do not guess or "
        "estimate: work the exact answer out of these lines.\n"
    )
    rows = "\n".join(
        f"Date: {MONTHS[line.day.month - 1]} {line.day.day:02d}, {line.day.year} || "
        f"User: {line.user} || Instance: {line.text}"
        for line in lines
    )
    return f"The following {about}\n{rows}\n\nRecall: the preceding {about}"


def label_count(lines: Iterable[Line], label: str) -> int:
    """Count the lines of a label."""
    return sum(line.label == label for line in lines)


def pairs(lines: Iterable[Line], task: Mapping[str, Any]) -> set[frozenset[int]]:
    """Pairs of users that meet a query of OOLONG-Pairs (RLM paper, appendix E.1).

    `task` holds ``user_a`` and, where it is not symmetric, ``user_b``: conditions on the lines
    of one user each. Symmetric: both users meet ``user_a``.
    """
    by_user: defaultdict[int, list[Line]] = defaultdict(list)
    for line in lines:
        by_user[line.user].append(line)
    first = {user for user, own in by_user.items() if meets(own, task["user_a"])}
    if task["symmetric"]:
        return {frozenset(pair) for pair in combinations(sorted(first), 2)}
    second = {user for user, own in by_user.items() if meets(own, task["user_b"])}
    both = permutations(sorted(first | second), 2)
    return {frozenset((a, b)) for a, b in both if a in first and b in second}


def meets(lines: Sequence[Line], conditions: Mapping[str, Any]) -> bool:
    """Tell whether one user's lines meet all conditions. After and before are strict."""
    unknown = conditions.keys() - {"any", "at_least", "exactly", "all_after", "all_before"}
    if unknown:
        raise ValueError(f"unknown conditions: {sorted(unknown)}")
    counts = Counter(line.label for line in lines)
    if "any" in conditions and not any(counts[label] for label in conditions["any"]):
        return False
    after = {k: date.fromisoformat(v) for k, v in conditions.get("all_after", {}).items()}
    before = {k: date.fromisoformat(v) for k, v in conditions.get("all_before", {}).items()}
    return (
        all(counts[label] >= least for label, least in conditions.get("at_least", {}).items())
        and all(counts[label] == n for label, n in conditions.get("exactly", {}).items())
        and all(line.day > after.get(line.label, date.min) for line in lines)
        and all(line.day < before.get(line.label, date.max) for line in lines)
    )
