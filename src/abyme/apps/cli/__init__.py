"""The command ``abyme``: a file per command, wired by `main`."""
