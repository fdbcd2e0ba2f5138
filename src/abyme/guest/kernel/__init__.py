"""One file for each mechanism of the Linux kernel that the jail is built from.

`lockdown` puts them together; it is the checklist to read first.
"""
