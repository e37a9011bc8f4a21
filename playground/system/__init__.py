"""What Madang asks of the machine: files, processes, jobs, locks, ports, signals, cores and memory."""
