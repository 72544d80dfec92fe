"""Sets that are drawn instead of downloaded."""
