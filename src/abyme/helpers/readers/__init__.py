"""A file a format. Each has `read(file, emit)`: a document's bytes in, text or members out."""
