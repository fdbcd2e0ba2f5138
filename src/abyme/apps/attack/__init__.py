"""``python -m abyme.apps.attack``: every behaviour of the self-check on every tier that can run.

`privileges` says as whom, `child` is the process that does it, `report` the table.
"""
