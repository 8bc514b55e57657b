"""What is new among the crystals, what was retrieved, and how good a set of crystals is. Tables only."""
