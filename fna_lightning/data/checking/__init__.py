"""What can be wrong with a set, found before training."""
