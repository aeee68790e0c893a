"""The service's application: the engine's HTTP API with the learning platform's endpoints and stand-ins."""
