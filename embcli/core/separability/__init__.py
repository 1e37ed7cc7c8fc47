"""How well classes can be told apart in a space, with their labels and without."""
