"""Text: overrides on the command line, output on terminals, names and values in messages."""
