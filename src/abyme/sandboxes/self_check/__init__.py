"""What every tier of sandboxes must show, whoever starts it: one list, run on each.

`behaviour` says what an entry is, `semantics` and `attacks` are the entries, `layers` names the
mechanisms of the jail and finds which of them are on here.
"""
