"""Training a network with masks held and forgetting recorded."""
