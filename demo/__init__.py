"""``make demo``: three questions about a real code base, answered on this machine."""
