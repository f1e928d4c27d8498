"""Files of a run: atomic writes, checked reads, locks, checksums and names."""
