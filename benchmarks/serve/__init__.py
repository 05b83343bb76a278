"""Our service beside its peers: the same weights, texts and machine, in turns."""
