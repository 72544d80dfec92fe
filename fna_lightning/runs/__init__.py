"""What the entry points do, and how they start."""
