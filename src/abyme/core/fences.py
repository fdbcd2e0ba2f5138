"""Data among instructions: fenced under a word that its author cannot know.

REPL output and document text reach a model between tags that carry a nonce,
fresh for each hop and derived from the run's seed, which no guest is told. So a
document cannot close the fence it stands in. The fence is a part of a profile's
template of output: those for small local models (`weak-local`) have none there
(docs/concepts/security.md); what sub-models read is fenced whatever the profile.
Does not stop a model from being persuaded by what it reads (design section 2).
"""

import hashlib


def nonce(seed: int, *hop: object) -> str:
    """Eight hexadecimal digits for one hop of one run; the same again on replay."""
    return _digest(seed, "fence", *hop)[:8]


def repl_seed(seed: int, node: str) -> int:
    """Seed of a REPL's `random`. Tells nothing about the fences."""
    return int(_digest(seed, "random", node)[:12], 16)


def data(text: str, word: str) -> str:
    """Fence `text`."""
    return f"<data {word}>\n{text}\n</data {word}>"


def strip(text: str, word: str) -> str:
    """Take the fence out of a reply that repeats it."""
    return text.replace(f"<data {word}>", "").replace(f"</data {word}>", "").strip()


def _digest(seed: int, *parts: object) -> str:
    content = "\x1f".join([str(seed), *map(str, parts)])
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
