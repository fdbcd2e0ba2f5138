"""Attacks on the boundary, a file a class. Each is a cell that must not reach its goal."""
