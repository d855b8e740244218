"""Looks for a recipe on val, and says over paired seeds how far it is ahead."""
