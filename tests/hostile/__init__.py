"""What nobody in his right mind would send, at every endpoint and into every key, while others work."""
