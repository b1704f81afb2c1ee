"""What a loss must get right: a table of cases, and who gets which of them right."""
