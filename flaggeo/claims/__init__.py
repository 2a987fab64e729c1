"""Claims of the papers and about this tool, each with an experiment and a verdict that follows from its numbers."""
