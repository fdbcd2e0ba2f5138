"""A file a format. Each has `read(file, emit)`: a document's bytes in, text or members out.

A reader that needs more than the standard library, or a part of it that is loaded late (codecs),
has `prepare()` as well: it is called once in a process, before lock-down, and imports them.
"""
