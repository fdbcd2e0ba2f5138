"""Hostile input for whatever reads what a guest, a file or a model has written.

`targets` are functions from bytes to nothing that raise only if a promise is broken. They are
run by a coverage-guided fuzzer (``make fuzz``), on the corpus it has kept and on bytes
of hypothesis's choice (``tests/test_wire_fuzz.py``).
"""
