"""Words in and out: what is typed on a command line, what is printed, how a list is shortened."""
