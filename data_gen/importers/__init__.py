"""Sets of questions that others made, as samples of the project."""
