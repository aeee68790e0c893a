"""What the machine gives: private files, ports, programs, the parent process, memory, a loop that stands still."""
