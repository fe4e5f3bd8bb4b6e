"""What a run leaves for people: one HTML file with everything in it."""
