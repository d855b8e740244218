"""Where a student starts: inside its teacher, and fitted to it."""
