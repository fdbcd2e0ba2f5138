"""Files, folders, stdin and Python values become one sealed, hashed context."""
