"""How a response is read, and when two answers, items or numbers count as equal. Shared by the tasks."""
