"""What people declare: jobs, schedules, resources and limits, and where they are found."""
