"""What is assumed, as data that both engines read."""
