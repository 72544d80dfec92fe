"""Sets of pictures as they lie on the disk: what is read, and the data modules that read it."""
