"""The guest inside a WebAssembly interpreter: what takes the place of processes, signals and maps.

Everything else of a REPL is `abyme.guest`, the same as in the jail. Nothing here is imported by
the host or by the jail.
"""
