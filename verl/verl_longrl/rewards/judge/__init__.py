"""A model as the judge of answers: the client, and the prompt that it reads."""
