"""Programs of ours that run confined beside the host: readers of formats, finders.

What is in here runs in a process that the host starts, that confines itself (`confine`) before
it sees the first byte of a document, and that has descriptors to read and a socket to answer.
It imports the standard library, `abyme.guest.kernel`, `abyme.layout`, `abyme.wire` and the one
library that a format needs, never the host.
"""
