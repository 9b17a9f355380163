"""Files: written whole or not at all, hashed once, locked against a second writer."""
