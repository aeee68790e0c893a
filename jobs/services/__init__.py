"""What the service does for its users: rows and jobs, committed together or not at all."""
