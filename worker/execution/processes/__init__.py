"""Jobs in processes of their own: the pool, and what runs inside of one."""
