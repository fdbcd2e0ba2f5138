"""Sizes in words, for accounts and errors."""


def size_words(size_bytes: int) -> str:
    """Write a size for people: ``38.1 MB``."""
    for limit, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size_bytes >= limit:
            return f"{size_bytes / limit:.1f} {unit}"
    return f"{size_bytes} bytes" if size_bytes != 1 else "1 byte"
