"""The operating system: private files, ports, programs, the parent process, memory, a blocked event loop."""
