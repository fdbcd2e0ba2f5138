"""Runs on disk: write, find and read them back."""
