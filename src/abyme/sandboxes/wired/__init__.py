"""The host's side of a REPL behind a wire: the same for every tier of sandboxes.

A tier starts the processes and hands over two sockets and a `body`; what a guest's frames mean,
how a cell is stopped and when a session is dead is decided here, once.
"""
