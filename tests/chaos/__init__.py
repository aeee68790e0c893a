"""Breaking everything, and an independent check that nothing was lost."""
