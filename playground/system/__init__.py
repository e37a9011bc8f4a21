"""What the machine gives and takes: files, processes, locks, ports, cores and memory."""
