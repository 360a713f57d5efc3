"""The gateway service: the mesh's face and its memory. Takes runs, works through their steps, remembers them."""
