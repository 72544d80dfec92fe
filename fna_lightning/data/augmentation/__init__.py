"""What changes about pictures between the disk and the network."""
