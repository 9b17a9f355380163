"""Files: replaced as a whole, hashed once, locked against a second writer."""
